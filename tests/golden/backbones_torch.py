"""MobileNetV2 with torchvision's names and aligned Xception with timm's, as DeepLab has them, in plain
PyTorch. make_features.py compares them with torchvision's and timm's own code.

A backbone returns its features at stride 4 and at the output stride. Dilation is that of src/model:
where the output stride takes the place of a stride, what follows is dilated; the layer that gave its
stride up, too ("uniform"), or not yet ("layer").
"""

from torch import nn
from torch.nn import functional as F

NAMES = ("mobilenet_v2", "xception41", "xception65", "xception71")


class Strides:
    """Stride and dilation of one layer after the other."""

    def __init__(self, output_stride, rule):
        self.left, self.rule, self.rate = output_stride, rule, 1

    def __call__(self, stride):
        if self.left >= stride:
            self.left //= stride
            return stride, self.rate
        before, self.rate = self.rate, self.rate * stride
        return 1, before if self.rule == "layer" else self.rate


def conv(inputs, outputs, kernel, stride=1, dilation=1, groups=1):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups, False)
    nn.init.kaiming_normal_(layer.weight)
    return layer


# --- MobileNetV2: expansion, channels, repeats, stride of the first ---

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1))


class ReLU6(nn.Module):
    def forward(self, x):
        return F.relu6(x)


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride, dilation, adds, bn):
        super().__init__()
        hidden = inputs * expansion
        layers = []
        if expansion != 1:
            layers.append(nn.Sequential(conv(inputs, hidden, 1), bn(hidden), ReLU6()))
        layers.append(nn.Sequential(conv(hidden, hidden, 3, stride, dilation, hidden), bn(hidden), ReLU6()))
        self.conv = nn.Sequential(*layers, conv(hidden, outputs, 1), bn(outputs))
        self.adds = adds

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, strides, divisor, bn):
        super().__init__()
        channels = 32 // divisor
        features = [nn.Sequential(conv(3, channels, 3, strides(2)[0]), bn(channels), ReLU6())]
        for expansion, width, repeats, stride in ROWS:
            width = max(width // divisor, 1)
            for i in range(repeats):
                features.append(InvertedResidual(channels, width, expansion,
                                                 *strides(stride if i == 0 else 1), i > 0, bn))
                channels = width
        self.features = nn.Sequential(*features)
        self.low_channels, self.high_channels = max(24 // divisor, 1), channels

    def forward(self, images):
        low = self.features[:4](images)
        return low, self.features[4:](low)


# --- Xception: depths, stride, shortcut ---

def units(name):
    entry = {"xception71": ((256, 1), (256, 2), (728, 1), (728, 2))}.get(name, ((256, 2), (728, 2)))
    flow = [((width,) * 3, stride, "conv") for width, stride in ((128, 2), *entry)]
    flow += [((728,) * 3, 1, "sum")] * (8 if name == "xception41" else 16)
    return flow + [((728, 1024, 1024), 2, "conv"), ((1536, 1536, 2048), 1, "none")]


class ConvNorm(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, bn):
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, stride)
        self.bn = bn(outputs)

    def forward(self, x):
        return self.bn(self.conv(x))


class Separable(nn.Module):
    def __init__(self, inputs, outputs, stride, dilation, bn):
        super().__init__()
        self.conv_dw = conv(inputs, inputs, 3, stride, dilation, inputs)
        self.bn_dw = bn(inputs)
        self.conv_pw = conv(inputs, outputs, 1)
        self.bn_pw = bn(outputs)


class Unit(nn.Module):
    """No ReLU behind the sum: who reads it has one, unless its depths have ("none": the last unit).
    The first unit's input has been through one."""

    def __init__(self, inputs, depths, stride, shortcut, dilation, raw, bn):
        super().__init__()
        self.kind, self.raw = shortcut, raw
        if shortcut == "conv":
            self.shortcut = ConvNorm(inputs, depths[2], 1, stride, bn)
        self.stack = nn.Module()
        for k, depth in enumerate(depths):
            self.stack.add_module(f"conv{k + 1}", Separable(inputs, depth, stride if k == 2 else 1,
                                                            dilation, bn))
            inputs = depth

    def forward(self, x):
        y = x
        for k in (1, 2, 3):
            part = getattr(self.stack, f"conv{k}")
            if self.kind == "none":
                y = F.relu(part.bn_dw(part.conv_dw(y)))
                y = F.relu(part.bn_pw(part.conv_pw(y)))
                continue
            if k == 3:
                self.tap = y
            y = F.relu(y) if k > 1 or self.raw else y
            y = part.bn_pw(part.conv_pw(part.bn_dw(part.conv_dw(y))))
        return y + self.shortcut(x) if self.kind == "conv" else y + x if self.kind == "sum" else y


class Xception(nn.Module):
    def __init__(self, name, strides, divisor, bn):
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 32 // divisor, 3, strides(2)[0], bn),
                                  ConvNorm(32 // divisor, 64 // divisor, 3, 1, bn))
        blocks, channels = [], 64 // divisor
        for depths, stride, shortcut in units(name):
            depths = tuple(depth // divisor for depth in depths)
            stride, dilation = strides(stride)
            blocks.append(Unit(channels, depths, stride, shortcut, dilation, bool(blocks), bn))
            channels = depths[2]
        self.blocks = nn.Sequential(*blocks)
        # The last unit that works at stride 4 gives its second convolution's output.
        self.tapped = 2 if name == "xception71" else 1
        self.low_channels, self.high_channels = 256 // divisor, channels

    def forward(self, images):
        x = images
        for layer in self.stem:
            x = F.relu(layer(x))
        high = self.blocks(x)
        return self.blocks[self.tapped].tap, high


def make(name, output_stride, divisor, bn_eps, bn_momentum, rule):
    eps = bn_eps if name == "mobilenet_v2" else 1e-3
    strides = Strides(output_stride, rule)

    def bn(channels):
        return nn.BatchNorm2d(channels, eps, bn_momentum)

    if name == "mobilenet_v2":
        return MobileNetV2(strides, divisor, bn)
    return Xception(name, strides, divisor, bn)
