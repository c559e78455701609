#!/usr/bin/env python3
"""Writes sgd.txt: trajectories of torch.optim.SGD that takes several steps an iteration on the same gradient.

usage: make_sgd.py [FILE]   (default: sgd.txt beside this script)

The setting is the reference recipe's: an optimizer whose parameter groups list a parameter k times steps it k times an
iteration; each iteration has a gradient of its own and the next rate of the "poly" schedule. Two ways of weight decay:

  fresh     today's torch.optim.SGD: every step adds weight decay to the gradient as it came
  into      torch before 1.5: weight decay was added to the stored gradient in place, so step i finds i - 1 of them in it

The file has lines "name: values": the setting, the initial value, a gradient per iteration ("gradient I"), and value and momentum
buffer after each iteration ("fresh K I value", "fresh K I buffer", …), a line each. %.9g gives every float32 back.
"""
import os
import sys

import torch

SIZE, ITERATIONS, SCHEDULED = 17, 5, 8  # odd and above a vector's width; a run stopped before its end
LR, MOMENTUM, WEIGHT_DECAY, POWER = 0.05, 0.9, 0.03, 0.9  # large ones: a missing term shows
STEPS = (1, 2, 4, 5)


def line(name, tensor):
    return f"{name}: " + " ".join(f"{v:.9g}" for v in tensor.tolist())


def trajectory(initial, gradients, steps, into):
    value = initial.clone().requires_grad_()
    optimizer = torch.optim.SGD([value], lr=LR, momentum=MOMENTUM, weight_decay=0 if into else WEIGHT_DECAY)
    for i, gradient in enumerate(gradients):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - i / SCHEDULED) ** POWER
        value.grad = gradient.clone()
        for _ in range(steps):
            if into:
                value.grad.add_(value.detach(), alpha=WEIGHT_DECAY)
            optimizer.step()
        yield value.detach().clone(), optimizer.state[value]["momentum_buffer"].clone()


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "sgd.txt")
    generator = torch.Generator().manual_seed(1)
    initial = torch.randn(SIZE, generator=generator)
    gradients = torch.randn(ITERATIONS, SIZE, generator=generator)
    lines = [f"iterations: {ITERATIONS}", f"scheduled: {SCHEDULED}", f"lr: {LR}", f"momentum: {MOMENTUM}",
             f"weight_decay: {WEIGHT_DECAY}", f"power: {POWER}", line("initial", initial)]
    lines += [line(f"gradient {i}", gradient) for i, gradient in enumerate(gradients)]
    for kind in ("fresh", "into"):
        for steps in STEPS:
            for i, (value, buffer) in enumerate(trajectory(initial, gradients, steps, kind == "into")):
                lines += [line(f"{kind} {steps} {i} value", value), line(f"{kind} {steps} {i} buffer", buffer)]
    with open(path, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
