#!/usr/bin/env python3
"""Makes foreign/: checkpoints of the DeepLabV3+ of two other programs, and what these networks compute.

    /usr/bin/python3 tests/golden/make_foreign.py            # writes vainf.pth, jfzhang.pth, logits.h5
    /usr/bin/python3 tests/golden/make_foreign.py --check    # compares logits.h5 with what the files' networks give

The networks are written anew from a description of their layers, names and settings; weights and running
statistics are random. ResNet-50, all widths divided by 32, output stride 16.

vainf.pth      names and layers of GitHub VainF/DeepLabV3Plus-Pytorch: the first block of layer4 is not dilated,
               resizes have half-pixel centres, one 3x3 in the decoder, which reads low-level features first
jfzhang.pth    of GitHub jfzhang95/pytorch-deeplab-xception: multi-grid in layer4, aligned corners, two 3x3
"""

import argparse
import collections
import os
import sys

try:
    import h5py
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as error:
    print(f"skipped: no {error.name}")
    sys.exit(77)

from formulas import random_tensor

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")
DIVISOR, CLASSES = 32, 3
SIZES = (97, 129), (64, 80), (51, 70)
WHOLE = SIZES[-1]  # of which logits at the image's size are kept, too
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv(inputs, outputs, kernel=1, stride=1, rate=1, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride, rate * (kernel // 2), rate, bias=bias)


def unit(inputs, outputs, kernel=1, rate=1):
    return [conv(inputs, outputs, kernel, 1, rate), nn.BatchNorm2d(outputs), nn.ReLU()]


def resize(x, size, align_corners):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class Block(nn.Module):
    def __init__(self, inputs, width, stride, rate):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, rate), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width), nn.BatchNorm2d(4 * width)
        if stride > 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(conv(inputs, 4 * width, 1, stride), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class Backbone(nn.Module):
    """ResNet-50 of output stride 16; `rates`: of the three blocks of layer4."""

    def __init__(self, rates):
        super().__init__()
        channels = 64 // DIVISOR
        self.conv1, self.bn1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels)
        for layer, (stride, of_blocks) in enumerate([(1, [1] * 3), (2, [1] * 4), (2, [1] * 6), (1, rates)]):
            width, blocks = 64 * 2**layer // DIVISOR, []
            for i, rate in enumerate(of_blocks):
                blocks.append(Block(channels, width, stride if i == 0 else 1, rate))
                channels = 4 * width
            setattr(self, f"layer{layer + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        low = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        return low, self.layer4(self.layer3(self.layer2(low)))


LOW, HIGH, WIDTH, REDUCED = 256 // DIVISOR, 2048 // DIVISOR, 256 // DIVISOR, 48 // DIVISOR


class VainfAspp(nn.Module):
    def __init__(self):
        super().__init__()
        branches = [unit(HIGH, WIDTH)] + [unit(HIGH, WIDTH, 3, rate) for rate in (6, 12, 18)]
        branches.append([nn.AdaptiveAvgPool2d(1)] + unit(HIGH, WIDTH))
        self.convs = nn.ModuleList(nn.Sequential(*branch) for branch in branches)
        self.project = nn.Sequential(*unit(5 * WIDTH, WIDTH), nn.Dropout(0.1))

    def forward(self, x):
        *branches, pooled = [branch(x) for branch in self.convs]
        return self.project(torch.cat(branches + [resize(pooled, x.shape[-2:], False)], 1))


class VainfHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(*unit(LOW, REDUCED))
        self.aspp = VainfAspp()
        self.classifier = nn.Sequential(*unit(REDUCED + WIDTH, WIDTH, 3), conv(WIDTH, CLASSES, bias=True))

    def forward(self, low, high):
        low = self.project(low)
        return self.classifier(torch.cat([low, resize(self.aspp(high), low.shape[-2:], False)], 1))


class Vainf(nn.Module):
    align_corners = False

    def __init__(self):
        super().__init__()
        self.backbone, self.classifier = Backbone([1, 2, 2]), VainfHead()

    def forward(self, x):
        return self.classifier(*self.backbone(x))


class JfzhangBranch(nn.Module):
    def __init__(self, kernel, rate):
        super().__init__()
        self.atrous_conv, self.bn = conv(HIGH, WIDTH, kernel, 1, rate), nn.BatchNorm2d(WIDTH)

    def forward(self, x):
        return F.relu(self.bn(self.atrous_conv(x)))


class JfzhangAspp(nn.Module):
    def __init__(self):
        super().__init__()
        for i, (kernel, rate) in enumerate([(1, 1), (3, 6), (3, 12), (3, 18)]):
            setattr(self, f"aspp{i + 1}", JfzhangBranch(kernel, rate))
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(HIGH, WIDTH))
        self.conv1, self.bn1 = conv(5 * WIDTH, WIDTH), nn.BatchNorm2d(WIDTH)

    def forward(self, x):
        pooled = resize(self.global_avg_pool(x), x.shape[-2:], True)
        branches = [self.aspp1(x), self.aspp2(x), self.aspp3(x), self.aspp4(x), pooled]
        return F.relu(self.bn1(self.conv1(torch.cat(branches, 1))))


class JfzhangDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(LOW, REDUCED), nn.BatchNorm2d(REDUCED)
        self.last_conv = nn.Sequential(*unit(WIDTH + REDUCED, WIDTH, 3), nn.Dropout(0.5),
                                       *unit(WIDTH, WIDTH, 3), nn.Dropout(0.1),
                                       conv(WIDTH, CLASSES, bias=True))

    def forward(self, low, aspp):
        low = F.relu(self.bn1(self.conv1(low)))
        return self.last_conv(torch.cat([resize(aspp, low.shape[-2:], True), low], 1))


class Jfzhang(nn.Module):
    align_corners = True

    def __init__(self):
        super().__init__()
        self.backbone, self.aspp, self.decoder = Backbone([2, 4, 8]), JfzhangAspp(), JfzhangDecoder()

    def forward(self, x):
        low, high = self.backbone(x)
        return self.decoder(low, self.aspp(high))


NETWORKS = {"vainf": Vainf, "jfzhang": Jfzhang}


def randomised(network):
    """He normal convolutions; batch norms that shift and scale, with statistics of their own."""
    for key, value in network.state_dict().items():
        kind = key.rsplit(".", 1)[1]
        if kind == "num_batches_tracked":
            value.fill_(1000)
        elif value.dim() == 4:
            nn.init.kaiming_normal_(value)
        elif kind in ("weight", "running_var"):
            value.copy_(torch.rand(value.shape) + 0.5)
        else:
            value.copy_(torch.randn(value.shape) * 0.3)
    return network


def checkpoint(name, network):
    """As their training scripts save it, before the first step."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    if name == "vainf":
        return {"cur_itrs": 30000, "model_state": network.state_dict(),
                "optimizer_state": optimizer.state_dict(),
                "scheduler_state": {"power": 0.9, "max_iters": 30000, "last_epoch": 0}, "best_score": 0.5}
    return {"epoch": 50, "state_dict": network.state_dict(), "optimizer": optimizer.state_dict(),
            "best_pred": 0.5}


def picture(height, width):
    """Bytes (height, width, 3), the same in foreign_test.cpp."""
    noise = random_tensor((1, height, width, 3), height)[0]
    return np.floor((noise + np.float32(1)) * np.float32(128)).astype(np.uint8)


def logits(name, file):
    """In double precision: of every size at stride 4, and of the smallest at the image's own."""
    saved = torch.load(file)
    network = NETWORKS[name]().double().eval()
    network.load_state_dict(saved["model_state" if name == "vainf" else "state_dict"], strict=True)
    found = collections.OrderedDict()
    for size in SIZES:
        image = (picture(*size).astype(np.float64) / 255 - MEAN) / STD
        with torch.no_grad():
            small = network(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
        found[f"{name}/{size[0]}x{size[1]}"] = small[0]
        if size == WHOLE:
            found[f"{name}/whole"] = resize(small, size, network.align_corners)[0]
    return {key: value.numpy().astype(np.float32) for key, value in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    torch.set_num_threads(1)
    problems, results = [], os.path.join(FOLDER, "logits.h5")
    made = {}
    for seed, name in enumerate(NETWORKS):
        file = os.path.join(FOLDER, f"{name}.pth")
        if not options.check:
            torch.manual_seed(seed)
            torch.save(checkpoint(name, randomised(NETWORKS[name]())), file)
            print(f"{file}: {os.path.getsize(file)} bytes")
        made.update(logits(name, file))
    if options.check:
        with h5py.File(results, "r") as f:
            for key, value in made.items():
                error = np.linalg.norm(f[key][()] - value) / np.linalg.norm(value)
                if not error <= 1e-6:
                    problems.append(f"{key} differs by {error:.1e}")
    else:
        with h5py.File(results, "w") as f:
            for key in sorted(made):
                f.create_dataset(key, data=made[key], track_times=False)
        print(f"{results}: {os.path.getsize(results)} bytes")
    print("\n".join(problems) or "done")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
