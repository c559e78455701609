#!/usr/bin/env python3
"""Mean gradient error of PyTorch's bf16 autocast against its fp32, on the CPU: how large such errors are elsewhere.

ResNet-18 at output stride 8 with two 3x3 convolutions and a classifier behind it, fresh He weights, batch 4 of 65x65. The
network is not ours layer by layer: the size of the errors is what is compared.

usage: pytorch_autocast.py
"""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def network():
    head = [nn.Conv2d(512, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 21, 1)]
    body = [Block(64, 64, 1), Block(64, 64, 1), Block(64, 128, 2), Block(128, 128, 1), Block(128, 256, 2),
            Block(256, 256, 1), Block(256, 512, 1), Block(512, 512, 1)]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    net = nn.Sequential(*stem, *body, *head)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net


def step(net, images, labels, bf16):
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = net(images)
    whole = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=True)
    F.cross_entropy(whole, labels).backward()
    return [logits.detach().float()] + [p.grad.clone() for p in net.parameters()]


def main():
    torch.manual_seed(0)
    net = network()
    images = torch.randn(4, 3, 65, 65) + torch.randn(4, 3, 5, 5).repeat_interleave(13, 2).repeat_interleave(13, 3)
    labels = torch.randint(0, 21, (4, 65, 65))
    exact, rounded = step(net, images, labels, False), step(net, images, labels, True)
    errors = [float((a - b).abs().mean() / a.pow(2).mean().sqrt()) for a, b in zip(exact, rounded)]
    print(f"logits: mean error {errors[0]:.4f}")
    print(f"parameters' gradients: median of the mean errors {sorted(errors[1:])[len(errors) // 2]:.4f}, "
          f"first convolution {errors[1]:.4f}, classifier {errors[-2]:.4f}")


main()
