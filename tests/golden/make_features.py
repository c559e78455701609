#!/usr/bin/env python3
"""Makes features.h5: what torchvision's MobileNetV2 and timm's aligned Xceptions give, by their own
code, from weights that are formulas of their names; see README.md.

    python3 tests/golden/make_features.py            # writes features.h5
    python3 tests/golden/make_features.py --check    # compares what it would write: exit 1
"""

import argparse
import os
import sys
import warnings

warnings.filterwarnings("ignore")
try:
    import h5py
    import numpy as np
    import timm
    import torch
    import torchvision
except ImportError as error:
    print(f"skipped: no {error.name}")
    sys.exit(77)

import backbones_torch
from formulas import images, kink_free_value

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "features.h5")
CASES = [(name, stride) for name in backbones_torch.NAMES for stride in (32, 16, 8)
         # timm's drops a shortcut there, as the unit's stride became 1.
         if (name, stride) != ("xception71", 8)]
HEIGHT, WIDTH, SEED = 65, 97, 11


def filled(network):
    """The weights of ours: their names have "backbone." before."""
    state = {}
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            state[key] = torch.from_numpy(kink_free_value("backbone." + key, tuple(value.shape)))
    network.load_state_dict(state, strict=False)
    return network.double().eval()


def torchvision_features(output_stride, x):
    """Its layers with strides and dilations set as TensorFlow's rule says; the code is theirs."""
    network = filled(torchvision.models.mobilenet_v2()).features[:18]
    strides = backbones_torch.Strides(output_stride, "layer")
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            stride, dilation = strides(layer.stride[0])
            layer.stride, layer.dilation, layer.padding = (stride,) * 2, (dilation,) * 2, (dilation,) * 2
    low = network[:4](x)
    return low, network[4:](low)


def timm_features(name, output_stride, x):
    network = filled(timm.create_model(name, output_stride=output_stride))
    kept = {}
    # Of the last unit at stride 4: its second separable convolution's batch norm, before the ReLU.
    unit = network.blocks[2 if name == "xception71" else 1]
    unit.stack.conv2.bn_pw.register_forward_hook(lambda _, __, y: kept.update(low=y.clone()))
    high = network.forward_features(x)
    return kept["low"], high


def features():
    data = {}
    x = torch.from_numpy(images(1, HEIGHT, WIDTH, SEED)).double()
    for name, stride in CASES:
        with torch.no_grad():
            low, high = (torchvision_features(stride, x) if name == "mobilenet_v2" else
                         timm_features(name, stride, x))
        for key, value, channels in (("low", low, 16), ("high", high, 64)):
            if key == "low" and stride != 32:
                continue  # the same
            # Some channels tell enough, as each has all of the layers before behind it.
            every = max(value.shape[1] // channels, 1)
            data[f"{name}/{stride}/{key}"] = value[0, ::every].numpy().astype(np.float32)
    return data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    torch.manual_seed(0)
    torch.set_num_threads(1)
    made = features()
    if not check:
        with h5py.File(FILE, "w") as f:
            for key, value in sorted(made.items()):
                f.create_dataset(key, data=value, track_times=False)
            f.attrs.update(height=HEIGHT, width=WIDTH, seed=SEED)
        print(f"{FILE}: {os.path.getsize(FILE)} bytes")
        return
    with h5py.File(FILE, "r") as f:
        for key, value in made.items():
            error = np.linalg.norm(f[key][()] - value) / np.linalg.norm(value)
            if not error <= 1e-6:
                sys.exit(f"{key} differs by {error:.1e}")
    print("done")


if __name__ == "__main__":
    main()
