#!/usr/bin/env bash
# On a bare Debian testing (debootstrap --variant=minbase, ca-certificates and git), as root, in a clean clone.
set -euo pipefail
time jobs/quickstart.sh
