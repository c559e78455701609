#!/usr/bin/env bash
set -euo pipefail
tests/fuzz/run.sh --seconds 600 shard checkpoint png jpeg toml config manifest classes safetensors pth
