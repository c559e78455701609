#!/usr/bin/env bash
# On a bare Debian 13 (debootstrap --variant=minbase, ca-certificates and git), as root, in a clean clone.
set -euo pipefail
time jobs/quickstart.sh
# On 2026-12-01, with the tree a mount point (mount --bind TREE TREE before the chroot):
DEEPLAB_TEST_DATA=${DATA:?a folder with VOCdevkit/} tests/run.sh
