#!/usr/bin/env bash
# usage: command.sh VOC OUT PYTHON — half an hour of two cores; PYTHON: one with PyTorch
set -euo pipefail
"$3" "$(dirname "$0")/torchvision_names.py" "$2/resnet101-random.pth"
jobs/reproduce_voc.sh -n 2 --iterations 6 --set train.accumulation=2 "$1" "$2/resnet101-random.pth" "$2/reproduction"
