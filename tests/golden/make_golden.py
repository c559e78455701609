#!/usr/bin/env python3
"""Makes the fixtures of this folder with PyTorch in double precision; see README.md.

    /usr/bin/python3 tests/golden/make_golden.py            # writes ops.h5, network_*.h5, names.txt
    /usr/bin/python3 tests/golden/make_golden.py --check    # compares what it would write: exit 1
"""

import argparse
import os
import sys
import zlib

try:
    import h5py
    import numpy as np
    import torch
    from torch.nn import functional as F
except ImportError as error:
    print(f"skipped: no {error.name}")
    sys.exit(77)

import deeplab_torch
from formulas import (dropout_keeps, images, kink_free_value, random_labels, random_tensor)

FOLDER = os.path.dirname(os.path.abspath(__file__))


def tensor(shape, seed, grad=True):
    return torch.from_numpy(random_tensor(shape, seed)).double().requires_grad_(grad)


class File:
    """Datasets by name: float32 for results, int64 for shapes and attributes."""

    def __init__(self):
        self.data, self.attributes = {}, {}

    def ints(self, name, values):
        self.data[name] = np.array(values, np.int64)

    def put(self, name, values):
        if isinstance(values, torch.Tensor):
            values = values.detach().numpy()
        self.data[name] = np.asarray(values, np.float64).astype(np.float32)

    def write(self, path):
        with h5py.File(path, "w") as f:
            for name in sorted(self.data):
                f.create_dataset(name, data=self.data[name], track_times=False)
            for name, value in self.attributes.items():
                f.attrs[name] = np.bytes_(value) if isinstance(value, str) else value

    def differences(self, path):
        found = []
        # What is zero but for rounding (the gradient of a shift that the next batch norm takes out)
        # is compared with the rest of the file.
        noise = 1e-9 * max(np.linalg.norm(v.astype(np.float64)) for v in self.data.values())
        with h5py.File(path, "r") as f:
            stored = []
            f.visititems(lambda name, o: stored.append(name) if isinstance(o, h5py.Dataset) else None)
            found += [f"{name}: only in {path}" for name in set(stored) - set(self.data)]
            for name, value in self.data.items():
                if name not in f:
                    found.append(f"{name}: not in {path}")
                    continue
                old, new = f[name][()].astype(np.float64), value.astype(np.float64)
                if old.shape != new.shape:
                    found.append(f"{name}: {old.shape} and not {new.shape}")
                    continue
                error = np.linalg.norm(old - new) / max(np.linalg.norm(new), noise)
                # Versions of PyTorch sum in another order, in double precision.
                if not error <= 1e-6:
                    found.append(f"{name}: differs by {error:.1e}")
            for name, value in self.attributes.items():
                old = f.attrs.get(name)
                if (old.decode() if isinstance(old, bytes) else old) != value:
                    found.append(f"attribute {name}: {old} and not {value}")
        return found


# --- Ops: random_tensor's seeds are 1 input, 2 second input, 3 and 4 small parameters, 9 gradient ---

CONVOLUTIONS = {  # n c h w  outputs kernel_h kernel_w  stride pad dilation groups  bias
    "stem": (2, 3, 17, 19, 20, 7, 7, 2, 3, 1, 1, 0),
    "one_by_one": (2, 37, 5, 7, 19, 1, 1, 1, 0, 1, 1, 0),
    "one_pixel": (4, 33, 1, 1, 18, 1, 1, 1, 0, 1, 1, 0),
    "classifier": (2, 18, 7, 5, 21, 1, 1, 1, 0, 1, 1, 1),
    "three_by_three": (2, 17, 7, 9, 19, 3, 3, 1, 1, 1, 1, 0),
    "bias": (1, 19, 6, 7, 35, 3, 3, 1, 1, 1, 1, 1),
    "stride": (2, 19, 8, 9, 17, 3, 3, 2, 1, 1, 1, 0),
    "shortcut": (2, 19, 7, 10, 33, 1, 1, 2, 0, 1, 1, 0),
    "dilation_2": (2, 17, 9, 7, 18, 3, 3, 1, 2, 2, 1, 0),
    "dilation_4": (1, 18, 11, 9, 17, 3, 3, 1, 4, 4, 1, 0),
    "rate_6": (1, 18, 7, 13, 17, 3, 3, 1, 6, 6, 1, 0),
    "rate_12": (2, 17, 5, 5, 16, 3, 3, 1, 12, 12, 1, 0),
    "rate_18": (1, 16, 21, 19, 5, 3, 3, 1, 18, 18, 1, 0),
    "stride_and_dilation": (1, 17, 12, 11, 19, 3, 3, 2, 2, 2, 1, 1),
    "groups": (2, 12, 7, 5, 15, 3, 3, 1, 1, 1, 3, 1),
    "depthwise": (1, 21, 9, 8, 21, 3, 3, 1, 2, 2, 21, 0),
    "rows": (1, 16, 9, 7, 16, 3, 1, 1, 1, 1, 1, 0),
    "wide": (1, 76, 5, 6, 64, 3, 3, 1, 1, 1, 1, 0),
}
for stride in 1, 2:
    for rate in 1, 2, 4, 6, 12, 18, 36:
        for parity, more in ("odd", 3), ("even", 4):
            size = rate + rate % 2 + more  # every tap meets some pixels
            channels = 3 if rate < 12 else 2
            CONVOLUTIONS[f"depthwise_stride_{stride}_rate_{rate}_{parity}"] = (
                1, channels, size, size, channels, 3, 3, stride, rate, rate, channels, 0)

ACTIVATED = {  # n c h w  stride pad dilation  activation of the input as in NORMS
    "relu": (2, 19, 7, 6, 1, 1, 1, 1),
    "relu_dilated": (1, 34, 9, 8, 1, 2, 2, 1),
    "relu_stride": (2, 17, 8, 7, 2, 1, 1, 1),
    "relu6": (1, 18, 7, 7, 1, 1, 1, 2),
}


def convolutions(f):
    for name, case in CONVOLUTIONS.items():
        n, c, h, w, k, r, s, stride, pad, dilation, groups, bias = case
        x, weight = tensor((n, c, h, w), 1), tensor((k, c // groups, r, s), 2)
        b = tensor((k,), 3) if bias else None
        y = F.conv2d(x, weight, b, stride, pad, dilation, groups)
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"conv2d/{name}/geometry", case)
        f.put(f"conv2d/{name}/y", y)
        f.put(f"conv2d/{name}/dx", x.grad)
        f.put(f"conv2d/{name}/dw", weight.grad)
        if bias:
            f.put(f"conv2d/{name}/db", b.grad)


def activated(f):
    """A depthwise convolution of the activation of x."""
    for name, case in ACTIVATED.items():
        n, c, h, w, stride, pad, dilation, activation = case
        x, weight = tensor((n, c, h, w), 1, False), tensor((c, 1, 3, 3), 2)
        x = (x * 8 if activation == 2 else x).requires_grad_()
        y = F.conv2d(ACTIVATIONS[activation](x), weight, None, stride, pad, dilation, c)
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"activated/{name}/geometry", case)
        for key, value in {"y": y, "dx": x.grad, "dw": weight.grad}.items():
            f.put(f"activated/{name}/{key}", value)


ACTIVATIONS = [lambda v: v, F.relu, F.relu6]
NORMS = {  # n c h w  activation (0 none, 1 ReLU, 2 ReLU6 of a scale that passes 6) residual frozen, eps, momentum
    "train": ((2, 19, 5, 7, 0, 0, 0), 1e-5, 0.1),
    "train_relu": ((3, 35, 4, 5, 1, 0, 0), 1e-5, 0.1),
    "train_residual": ((2, 18, 5, 3, 0, 1, 0), 1e-5, 0.1),
    "train_relu_residual": ((2, 33, 7, 5, 1, 1, 0), 1e-5, 0.1),
    "one_value_a_sample": ((4, 21, 1, 1, 1, 0, 0), 1e-5, 0.1),
    "other_eps_and_momentum": ((2, 17, 3, 5, 1, 0, 0), 1e-3, 3e-4),
    "frozen": ((2, 19, 3, 4, 0, 0, 1), 1e-5, 0.1),
    "frozen_relu": ((1, 37, 5, 5, 1, 0, 1), 1e-5, 0.1),
    "frozen_relu_residual": ((2, 20, 3, 7, 1, 1, 1), 1e-5, 0.1),
    "train_relu6": ((3, 35, 4, 5, 2, 0, 0), 1e-5, 0.1),
    "frozen_relu6": ((1, 37, 5, 5, 2, 0, 1), 1e-3, 0.1),
}


def norms(f):
    for name, (case, eps, momentum) in NORMS.items():
        n, c, h, w, activation, residual, frozen = case
        x, r = tensor((n, c, h, w), 1), tensor((n, c, h, w), 2)
        gamma, beta = tensor((c,), 3), tensor((c,), 4)
        if activation == 2:
            gamma = (gamma.detach() * 8).requires_grad_()
        mean, variance = tensor((c,), 5, False), tensor((c,), 6, False).abs() + 0.5
        eps, momentum = float(np.float32(eps)), float(np.float32(momentum))
        y = F.batch_norm(x, mean, variance, gamma, beta, not frozen, momentum, eps)
        z = y + r if residual else y
        y = ACTIVATIONS[activation](z)
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"batch_norm/{name}/geometry", case)
        f.put(f"batch_norm/{name}/eps_momentum", [eps, momentum])
        for key, value in {"y": y, "running_mean": mean, "running_var": variance, "dx": x.grad,
                           "dgamma": gamma.grad, "dbeta": beta.grad}.items():
            f.put(f"batch_norm/{name}/{key}", value)
        if residual:
            f.put(f"batch_norm/{name}/dresidual", r.grad)


POOLS = {  # n c h w  kernel stride pad  quarters: rounded to multiples of 1/4, so that values tie
    "stem": (2, 19, 9, 11, 3, 2, 1, 0),
    "even": (1, 33, 8, 10, 3, 2, 1, 0),
    "ties": (2, 17, 7, 9, 3, 2, 1, 1),
    "two_by_two": (1, 18, 7, 5, 2, 2, 0, 0),
    "overlapping": (1, 16, 6, 7, 5, 1, 2, 0),
    "one_pixel": (2, 17, 1, 1, 3, 2, 1, 0),
}


def pools(f):
    for name, case in POOLS.items():
        n, c, h, w, kernel, stride, pad, quarters = case
        x = tensor((n, c, h, w), 1, False)
        x = (torch.round(x * 4) / 4 if quarters else x).requires_grad_()
        y = F.max_pool2d(x, kernel, stride, pad)
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"max_pool/{name}/geometry", case)
        f.put(f"max_pool/{name}/y", y)
        f.put(f"max_pool/{name}/dx", x.grad)
    for name, shape in {"odd": (2, 37, 5, 7), "one_pixel": (3, 17, 1, 1)}.items():
        x = tensor(shape, 1)
        y = F.adaptive_avg_pool2d(x, 1)
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"global_average_pool/{name}/geometry", shape)
        f.put(f"global_average_pool/{name}/y", y)
        f.put(f"global_average_pool/{name}/dx", x.grad)


RESIZES = {  # n c h w  height width
    "decoder": (2, 18, 5, 7, 17, 25),
    "odd": (1, 19, 3, 4, 10, 9),
    "pooled": (2, 35, 1, 1, 5, 7),
    "one_column": (1, 17, 6, 1, 13, 3),
    "down": (1, 21, 9, 9, 4, 5),
    "same": (1, 5, 4, 3, 4, 3),
    "long": (1, 2, 33, 5, 129, 7),
}


def resizes(f):
    for align in True, False:
        op = "upsample" if align else "upsample_half_pixel"
        for name, case in RESIZES.items():
            if not align and name == "decoder":
                continue
            x = tensor(case[:4], 1)
            y = deeplab_torch.resize(x, case[4:], align)
            y.backward(tensor(y.shape, 9, False))
            f.ints(f"{op}/{name}/geometry", case)
            f.put(f"{op}/{name}/y", y)
            f.put(f"{op}/{name}/dx", x.grad)


def dropouts(f):
    for name, case in {"odd": (3, 19, 5, 7, 2), "wide": (2, 37, 3, 3, 0)}.items():  # n c h w  layer
        n, c, h, w, layer = case
        p, seed, epoch = np.float32(0.3), 12345, 3
        mask = np.stack([dropout_keeps(seed, epoch, 100 + 7 * i, layer, c * h * w, p) for i in range(n)])
        x = tensor((n, c, h, w), 1)
        y = x * torch.from_numpy(mask.reshape(n, c, h, w)) / (1 - float(p))
        y.backward(tensor(y.shape, 9, False))
        f.ints(f"dropout/{name}/geometry", case)
        f.put(f"dropout/{name}/y", y)
        f.put(f"dropout/{name}/dx", x.grad)


def sums(f):
    x = [tensor((2, 19, 3, 5), seed, False) for seed in (1, 2, 3)]
    f.ints("sum/three/geometry", x[0].shape)
    f.put("sum/three/y", sum(x))


HEADS = {  # n classes h w  height width, share of valid pixels
    "odd": ((2, 21, 5, 7, 17, 25), 0.7),
    "two_classes": ((1, 2, 5, 3, 18, 11), 0.9),
    "few_valid": ((2, 19, 4, 4, 13, 13), 0.02),
    "no_valid": ((1, 5, 3, 3, 9, 9), 0.0),
    "same_size": ((1, 5, 7, 7, 7, 7), 1.0),
    "one_pixel": ((3, 19, 1, 1, 5, 7), 0.7),
}


def heads(f):
    for align in True, False:
        op = "segmentation_loss" if align else "segmentation_loss_half_pixel"
        for name, (case, valid) in HEADS.items():
            n, c, h, w, height, width = case
            logits = (tensor((n, c, h, w), 1, False) * 8).requires_grad_()
            labels = random_labels(n * height * width, c, valid).reshape(n, height, width)
            loss = F.cross_entropy(deeplab_torch.resize(logits, (height, width), align),
                                   torch.from_numpy(labels).long(), ignore_index=255,
                                   reduction="sum")
            loss.backward()
            f.ints(f"{op}/{name}/geometry", case)
            f.put(f"{op}/{name}/valid", [valid])
            f.put(f"{op}/{name}/loss", [loss.item()])
            f.put(f"{op}/{name}/dlogits", logits.grad)


def optimizers(f):
    """Three iterations of SGD with momentum, weight decay and a falling rate on the gradient of a 1x1
    convolution's weights, each applied `steps` times, as repeated calls of step() do; one case
    clipped."""
    for name, steps, clip in (("one_step", 1, 0.0), ("four_steps", 4, 0.0), ("clipped", 2, 0.05)):
        shape = (19, 17, 1, 1)
        w = torch.nn.Parameter(tensor(shape, 2, False))
        optimizer = torch.optim.SGD([w], lr=1.0, momentum=float(np.float32(0.9)),
                                    weight_decay=float(np.float32(0.01)))
        for lr in (0.05, 0.04, 0.03):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            y = F.conv2d(tensor((2, 17, 3, 5), 1, False), w)
            y.backward(tensor(y.shape, 9, False) / 37)
            if clip:
                torch.nn.utils.clip_grad_norm_([w], float(np.float32(clip)))
            for _ in range(steps):
                optimizer.step()
        f.ints(f"sgd/{name}/geometry", (*shape, steps))
        f.put(f"sgd/{name}/clip", [clip])
        f.put(f"sgd/{name}/w", w)
        f.put(f"sgd/{name}/momentum", optimizer.state[w]["momentum_buffer"])


# --- Networks from kink-free weights ---

NETWORKS = {  # file: backbone, output stride, width divisor, height, width, steps of the head, rest
    "network_r50_os16_65x65": ("resnet50", 16, 16, 65, 65, 1, {}),
    "network_r18_os8_97x65": ("resnet18", 8, 16, 97, 65, 2, {}),
    "network_mv2_os16_65x65": ("mobilenet_v2", 16, 8, 65, 65, 1, {"separable": True, "dilation": "layer"}),
    "network_x41_os8_65x49": ("xception41", 8, 16, 65, 49, 1, {"separable": True, "dilation": "layer"}),
    # Maps wider than the largest atrous rate: their logits tell rates apart.
    "rates_r18_os16_33x321": ("resnet18", 16, 16, 33, 321, 1, {}),
    "rates_r18_os8_33x321": ("resnet18", 8, 16, 33, 321, 1, {}),
    "rates_r18_separable_os16_33x321": ("resnet18", 16, 16, 33, 321, 1, {"separable": True}),
    "rates_mv2_uniform_os8_33x321": ("mobilenet_v2", 8, 8, 33, 321, 1, {}),
    "rates_x71_uniform_os16_33x161": ("xception71", 16, 16, 33, 161, 1, {}),
}
BATCH, CLASSES, STEPS, LR, MOMENTUM = 4, 5, 10, 1e-4, 0.9


class Margin:
    """Watches how near the inputs of ReLUs come to their kinks, and keeps a checksum of each one's
    signs."""

    def __init__(self):
        self.value, self.signs, self.relu, self.relu6 = float("inf"), [], F.relu, F.relu6

    def __enter__(self):
        def watched(activation, kinks):
            def activated(x):
                for kink in kinks:
                    distance = x.detach() - kink
                    self.value = min(self.value, distance.abs().min().item())
                    self.signs.append(zlib.crc32(np.packbits((distance > 0).numpy())))
                return activation(x)
            return activated
        F.relu, F.relu6 = watched(self.relu, (0,)), watched(self.relu6, (0, 6))
        return self

    def __exit__(self, *_):
        F.relu, F.relu6 = self.relu, self.relu6


def batch(step, height, width):
    x = torch.from_numpy(images(BATCH, height, width, 100 + step)).double()
    labels = random_labels(BATCH * height * width, CLASSES, 0.7, 200 + step)
    return x, torch.from_numpy(labels.reshape(BATCH, height, width))


def network(name):
    backbone, stride, divisor, height, width, head_steps, rest = NETWORKS[name]
    model = deeplab_torch.DeepLabV3Plus(backbone, stride, CLASSES, (0, 0, 0), divisor, **rest).double()
    values = {k: kink_free_value(k, tuple(v.shape)) for k, v in deeplab_torch.state(model).items()}
    model.load_state_dict({k: torch.from_numpy(v) for k, v in values.items()}, strict=True)
    f = File()
    f.attributes = {"backbone": backbone, "output_stride": stride, "width_divisor": divisor,
                    "num_classes": CLASSES, "batch": BATCH, "height": height, "width": width,
                    "head_steps": head_steps,
                    **{key: int(value) if key == "separable" else value for key, value in rest.items()},
                    # Tells a wrong formula from a wrong network.
                    "crc32": zlib.crc32(b"".join(values[k].tobytes() for k in sorted(values)))}

    x, labels = batch(0, height, width)
    f.put("eval_logits", model.eval().small_logits(x))
    if name.startswith("rates_"):
        return f
    heads = [p for n, p in model.named_parameters() if not n.startswith("backbone.")]
    decay = [float(np.float32(v)) for v in (0.1, 0.3)]  # large: 10 steps must show it
    backbone_sgd = torch.optim.SGD(model.backbone.parameters(), LR, MOMENTUM, weight_decay=decay[0])
    head_sgd = torch.optim.SGD(heads, 10 * LR, MOMENTUM, weight_decay=decay[1])
    model.train()
    losses, margin = [], Margin()
    for step in range(STEPS):
        x, labels = batch(step, height, width)
        with margin:
            logits = model.small_logits(x)
        loss = deeplab_torch.segmentation_loss(deeplab_torch.resize(logits, x.shape[-2:]), labels)
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            f.put("logits", logits)
            for key, p in model.named_parameters():
                f.put(f"gradients/{key}", p.grad)
            for key, value in deeplab_torch.state(model).items():
                if "running" in key:
                    f.put(f"states/{key}", value)
        backbone_sgd.step()
        for _ in range(head_steps):
            head_sgd.step()
    f.put("losses", losses)
    print(f"{name}: losses {losses[0]:.4f} … {losses[-1]:.4f}, ReLU inputs stay {margin.value:.2f} from 0")
    assert margin.value > 0.5, "a ReLU is near its kink"
    return f


def names():
    """Parameters and running statistics of the networks at full width."""
    lines = []
    for backbone in deeplab_torch.BACKBONES:
        state = deeplab_torch.state(deeplab_torch.DeepLabV3Plus(backbone))
        lines += [" ".join([backbone, k, *map(str, v.shape)]) for k, v in sorted(state.items())]
    state = deeplab_torch.state(deeplab_torch.DeepLabV3Plus("resnet18", separable=True))
    lines += [" ".join(["resnet18,separable", k, *map(str, v.shape)]) for k, v in sorted(state.items())]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", default=FOLDER, help="folder to write to (default: this one)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)

    ops = File()
    for part in (convolutions, activated, norms, pools, resizes, dropouts, sums, heads, optimizers):
        part(ops)
    files = {"ops.h5": ops, **{f"{n}.h5": network(n) for n in NETWORKS}}
    problems = []
    for name, content in files.items():
        path = os.path.join(options.out, name)
        if options.check:
            problems += content.differences(path)
        else:
            content.write(path)
            print(f"{path}: {os.path.getsize(path)} bytes")
    path = os.path.join(options.out, "names.txt")
    if not options.check:
        with open(path, "w") as f:
            f.write(names())
    elif open(path).read() != names():
        problems.append(f"{path} differs")
    print("\n".join(problems) or "done")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
