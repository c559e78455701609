#!/usr/bin/env python3
"""Compares pooled features of images with those of PyTorch: MobileNetV2 from a safetensors file under
torchvision's names, at output stride 32.

    pooled_features.py WEIGHTS INPUTS FEATURES COUNT SIDE

INPUTS: float32, COUNT x 3 x SIDE x SIDE, as the network takes them; FEATURES: float32, COUNT x 320.
Prints the largest difference of an image, relative to its norm. Exit code 1 above 1e-5.
"""

import json
import struct
import sys

import numpy as np
import torch
from torch import nn

import backbones_torch


def tensors(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "I64": np.int64}
    return {name: torch.from_numpy(np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]],
                                                 types[t["dtype"]]).reshape(t["shape"]).copy())
            for name, t in header.items()}


def main():
    weights, inputs, features, count, side = *sys.argv[1:4], *map(int, sys.argv[4:6])
    network = backbones_torch.MobileNetV2(backbones_torch.Strides(32, "layer"), 1, nn.BatchNorm2d)
    left = {name: value for name, value in tensors(weights).items()
            if not name.startswith(("features.18.", "classifier.")) and "num_batches" not in name}
    missing = network.load_state_dict(left, strict=False)
    assert not missing.unexpected_keys and all("num_batches" in key for key in missing.missing_keys)
    network.double().eval()
    x = torch.from_numpy(np.fromfile(inputs, np.float32).reshape(count, 3, side, side)).double()
    with torch.no_grad():
        expected = torch.cat([network(x[i:i + 1])[1].mean((2, 3)) for i in range(count)]).numpy()
    found = np.fromfile(features, np.float32).reshape(count, -1).astype(np.float64)
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    print(f"largest difference {errors.max():.1e} of {count} images")
    sys.exit(0 if errors.max() <= 1e-5 else 1)


if __name__ == "__main__":
    main()
