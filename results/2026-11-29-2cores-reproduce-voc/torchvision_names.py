#!/usr/bin/env python3
"""usage: torchvision_names.py OUT.pth — a ResNet-101 of PyTorch's random values under torchvision's names, as torch.save writes it."""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
import deeplab_torch  # noqa: E402

torch.manual_seed(1)
state = deeplab_torch.DeepLabV3Plus("resnet101", 16, 21, (0, 0, 0)).state_dict()
weights = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
weights |= {"fc.weight": torch.randn(1000, 2048), "fc.bias": torch.zeros(1000)}
torch.save(weights, sys.argv[1])
