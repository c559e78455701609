"""DeepLabV3+ as a plain PyTorch module whose parameters and running statistics have the names and
shapes of ours, so that load_state_dict(strict=True) takes what the program writes.

The network is that of src/model/: torchvision's ResNet v1.5 (stride in the 3x3); MobileNetV2 under torchvision's names and
aligned Xception under timm's (both in backbones_torch.py); ASPP and decoder of arXiv 1802.02611. Runs on PyTorch 1.13 and 2.x.

    python3 deeplab_torch.py resnet50      # prints every parameter and running statistic
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

import backbones_torch

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
# Of layer1 to layer4: (stride, dilation).
LAYERS = {16: ((1, 1), (2, 1), (2, 1), (1, 2)), 8: ((1, 1), (2, 1), (1, 2), (1, 4))}
ASPP_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}


def conv(inputs, outputs, kernel, stride=1, padding=0, dilation=1, bias=False, groups=1):
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
    nn.init.kaiming_normal_(layer.weight)  # fan in; a bias keeps torch's U(+-1/sqrt(fan in))
    return layer


def block_dilations(rule, layers, index, count):
    """Of the blocks of layers[index]: "uniform", all alike, "torchvision", the first as the layer
    before, "multigrid", those of the last layer by 1, 2 and 4 times its rate."""
    rate = layers[index][1]
    if rule == "multigrid" and index == 3:
        return [rate * 2**b for b in range(count)]
    first = layers[index - 1][1] if rule == "torchvision" and index > 0 else rate
    return [first] + [rate] * (count - 1)


def resize(x, size, align_corners=True):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, width, stride, dilation, bn):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride, dilation, dilation)
        self.bn1 = bn(width)
        self.conv2 = conv(width, width, 3, 1, dilation, dilation)
        self.bn2 = bn(width)
        self.downsample = shortcut(inputs, width, stride, bn)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, width, stride, dilation, bn):
        super().__init__()
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = bn(width)
        self.conv2 = conv(width, width, 3, stride, dilation, dilation)
        self.bn2 = bn(width)
        self.conv3 = conv(width, 4 * width, 1)
        self.bn3 = bn(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride, bn)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(inputs, outputs, stride, bn):
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv(inputs, outputs, 1, stride), bn(outputs))


class ResNet(nn.Module):
    """Returns the outputs of layer1 (stride 4) and of layer4 (the output stride)."""

    def __init__(self, name, output_stride, divisor, bn, dilation="uniform"):
        super().__init__()
        block = BasicBlock if name == "resnet18" else Bottleneck
        channels = 64 // divisor
        self.conv1 = conv(3, channels, 7, 2, 3)
        self.bn1 = bn(channels)
        for i, (count, (stride, _)) in enumerate(zip(BLOCKS[name], LAYERS[output_stride])):
            width = 64 * 2**i // divisor
            blocks = []
            for b, rate in enumerate(block_dilations(dilation, LAYERS[output_stride], i, count)):
                blocks.append(block(channels, width, stride if b == 0 else 1, rate, bn))
                channels = width * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.low_channels = 64 // divisor * block.expansion
        self.high_channels = channels

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        low = self.layer1(x)
        return low, self.layer4(self.layer3(self.layer2(low)))


class ConvNormAct(nn.Module):
    def __init__(self, inputs, outputs, kernel, bn, dilation=1):
        super().__init__()
        self.conv = conv(inputs, outputs, kernel, 1, dilation * (kernel // 2), dilation)
        self.bn = bn(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class SeparableNormAct(nn.Module):
    """A 3x3 as a depthwise one and a 1x1, batch norm and ReLU behind each."""

    def __init__(self, inputs, outputs, bn, dilation=1):
        super().__init__()
        self.dw = conv(inputs, inputs, 3, 1, dilation, dilation, groups=inputs)
        self.dw_bn = bn(inputs)
        self.conv = conv(inputs, outputs, 1)
        self.bn = bn(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(F.relu(self.dw_bn(self.dw(x))))))


def three_by_three(inputs, outputs, bn, separable, dilation=1):
    if separable:
        return SeparableNormAct(inputs, outputs, bn, dilation)
    return ConvNormAct(inputs, outputs, 3, bn, dilation)


class Aspp(nn.Module):
    def __init__(self, inputs, width, rates, dropout, bn, separable, align_corners):
        super().__init__()
        self.align_corners = align_corners
        self.branch0 = ConvNormAct(inputs, width, 1, bn)
        self.branch1, self.branch2, self.branch3 = (
            three_by_three(inputs, width, bn, separable, rate) for rate in rates)
        self.pool = ConvNormAct(inputs, width, 1, bn)
        self.project = ConvNormAct(5 * width, width, 1, bn)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        pooled = resize(self.pool(F.adaptive_avg_pool2d(x, 1)), x.shape[-2:], self.align_corners)
        branches = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x), pooled]
        return self.dropout(self.project(torch.cat(branches, 1)))


class Decoder(nn.Module):
    def __init__(self, low_channels, width, reduced, classes, dropout, bn, separable, align_corners,
                 convs):
        super().__init__()
        self.align_corners = align_corners
        self.low = ConvNormAct(low_channels, reduced, 1, bn)
        self.refine1 = three_by_three(width + reduced, width, bn, separable)
        if convs == 2:
            self.refine2 = three_by_three(width, width, bn, separable)
        self.classifier = conv(width, classes, 1, bias=True)
        self.dropout1, self.dropout2 = nn.Dropout(dropout[0]), nn.Dropout(dropout[1])

    def forward(self, low, aspp):
        low = self.low(low)
        x = torch.cat([resize(aspp, low.shape[-2:], self.align_corners), low], 1)
        x = self.dropout1(self.refine1(x))
        if hasattr(self, "refine2"):
            x = self.dropout2(self.refine2(x))
        return self.classifier(x)


BACKBONES = (*BLOCKS, *backbones_torch.NAMES)


class DeepLabV3Plus(nn.Module):
    """backbone: one of BACKBONES. output_stride: 8, 16. dropout: after the ASPP
    projection and after each 3x3 of the decoder. width_divisor: divides all widths (tests only).
    separable: the 3x3 of ASPP and decoder are depthwise separable. dilation: "uniform"; of
    MobileNetV2 and Xception "layer"; of a ResNet "torchvision" or "multigrid".
    align_corners: of all bilinear resizes. decoder_convs: 3x3 of the decoder, 1 or 2."""

    def __init__(self, backbone="resnet101", output_stride=16, num_classes=21,
                 dropout=(0.5, 0.5, 0.1), width_divisor=1, bn_eps=1e-5, bn_momentum=0.1,
                 separable=False, dilation="uniform", align_corners=True,
                 decoder_convs=2):
        super().__init__()
        self.align_corners = align_corners

        def bn(channels):
            return nn.BatchNorm2d(channels, bn_eps, bn_momentum)

        width, reduced = 256 // width_divisor, 48 // width_divisor
        if backbone in BLOCKS:
            self.backbone = ResNet(backbone, output_stride, width_divisor, bn, dilation)
        else:
            self.backbone = backbones_torch.make(backbone, output_stride, width_divisor, bn_eps,
                                                 bn_momentum, dilation)
        self.aspp = Aspp(self.backbone.high_channels, width, ASPP_RATES[output_stride], dropout[0], bn,
                         separable, align_corners)
        self.decoder = Decoder(self.backbone.low_channels, width, reduced, num_classes, dropout[1:], bn,
                               separable, align_corners, decoder_convs)

    def small_logits(self, images):
        """(N, classes, ceil(H/4), ceil(W/4)): what our inference plan keeps."""
        low, high = self.backbone(images)
        return self.decoder(low, self.aspp(high))

    def forward(self, images):
        return resize(self.small_logits(images), images.shape[-2:], self.align_corners)


def segmentation_loss(logits, labels, ignore=255):
    """Mean over the valid pixels; labels (N, H, W) as integers."""
    return F.cross_entropy(logits, labels.long(), ignore_index=ignore)


def state(model):
    """Parameters and running statistics by name: what our files hold. PyTorch's counter
    num_batches_tracked is no state of ours, and load_state_dict(strict=True) does not miss it in a
    plain dict, which has no version."""
    return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


if __name__ == "__main__":
    for key, value in state(DeepLabV3Plus(*sys.argv[1:2])).items():
        print(key, *value.shape)
