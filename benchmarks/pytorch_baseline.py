#!/usr/bin/env python3
"""PyTorch's training step of the same network, to stand beside ours: same batch, same SGD with momentum and weight decay,
channels_last, data on the device, mean over valid pixels, dropout on. On a GPU in bf16 autocast (or --precision fp32, tf32),
timed by events; on a CPU in fp32, timed by the clock. --infer: in place of a step, the labels of images, from 8-bit pixels
through normalisation, network, upsampling and arg max. Prints a table, and writes one JSON line to --json as soon as a case is
over; a case that fails is a line with "error" in place of times, and the others are run all the same (exit code 1).

    benchmarks/pytorch_baseline.py --batch 15 16 31 32 --compile 16 31 --json pytorch.jsonl
    benchmarks/pytorch_baseline.py --device cpu --backbone resnet18 --crop 65 --batch 2 --steps 3
"""

import argparse
import contextlib
import gc
import inspect
import json
import pathlib
import resource
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"))
from deeplab_torch import DeepLabV3Plus, segmentation_loss  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch", type=int, nargs="*", default=[16], help="batches of the eager runs; none: no eager run")
    parser.add_argument("--compile", type=int, nargs="*", default=[], help="batches also tried with torch.compile")
    parser.add_argument("--precision", choices=("bf16", "tf32", "fp32"), help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--memory-format", choices=("channels_last", "contiguous"), default="channels_last")
    parser.add_argument("--infer", action="store_true", help="labels of images in place of training steps")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--json", type=pathlib.Path)
    return parser.parse_args()


class Subject:
    """A network with initial values; `step` returns a number that is finite when all is well."""

    def __init__(self, args):
        torch.manual_seed(1)
        self.device = torch.device(args.device)
        self.autocast = (torch.autocast(args.device, dtype=torch.bfloat16) if args.precision == "bf16"
                         else contextlib.nullcontext())
        self.layout = torch.channels_last if args.memory_format == "channels_last" else torch.contiguous_format
        self.model = DeepLabV3Plus(args.backbone).to(self.device).to(memory_format=self.layout)


def fused(device):
    """PyTorch's fastest SGD on a GPU, where this version has it."""
    return device.type == "cuda" and "fused" in inspect.signature(torch.optim.SGD).parameters


class Trainer(Subject):
    """The reference recipe's step: two parameter groups, the head at ten times the rate."""

    def __init__(self, args, batch, compiled):
        super().__init__(args)
        model = self.model.train()
        self.optimizer = torch.optim.SGD(
            [{"params": model.backbone.parameters(), "lr": 0.007},
             {"params": [*model.aspp.parameters(), *model.decoder.parameters()], "lr": 0.07}],
            momentum=0.9, weight_decay=4e-5, **({"fused": True} if fused(self.device) else {}))
        self.model = torch.compile(model) if compiled else model
        size = (batch, args.crop, args.crop)
        self.images = torch.randn(batch, 3, args.crop, args.crop, device=self.device).to(memory_format=self.layout)
        self.labels = torch.randint(0, 21, size, device=self.device)
        self.labels[torch.rand(size, device=self.device) < 0.05] = 255

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            loss = segmentation_loss(self.model(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss


class Labeller(Subject):
    """What evaluation does with images that have been decoded."""

    def __init__(self, args, batch, compiled):
        super().__init__(args)
        model = self.model.eval()
        self.model = torch.compile(model) if compiled else model
        self.pixels = torch.randint(0, 256, (batch, args.crop, args.crop, 3), dtype=torch.uint8)
        self.mean = torch.tensor([0.485, 0.456, 0.406], device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225], device=self.device).view(1, 3, 1, 1)

    def step(self):
        with torch.inference_mode(), self.autocast:
            images = self.pixels.to(self.device).permute(0, 3, 1, 2).float().div_(255).sub_(self.mean).div_(self.std)
            logits = self.model(images.contiguous(memory_format=self.layout))
            self.labels = logits.argmax(1).to(torch.uint8).cpu()
            return logits[0, 0, ::16, ::16].sum()


def step_seconds(trainer, args):
    """Of each counted step."""
    for _ in range(args.warmup):
        loss = trainer.step()
    if args.device == "cpu":
        times = []
        for _ in range(args.steps):
            start = time.perf_counter()
            loss = trainer.step()
            times.append(time.perf_counter() - start)
    else:
        torch.cuda.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(args.steps + 1)]
        events[0].record()
        for event in events[1:]:
            loss = trainer.step()
            event.record()
        torch.cuda.synchronize()
        times = [a.elapsed_time(b) / 1000 for a, b in zip(events, events[1:])]
    if not torch.isfinite(loss):
        raise ArithmeticError("the result is not finite: these times would be of NaN")
    return times


def about(args, batch, compiled):
    """What was asked for, and of which PyTorch."""
    on_gpu = args.device == "cuda"
    return {"kind": "infer" if args.infer else "train", "mode": "compile" if compiled else "eager",
            "backbone": args.backbone, "crop": args.crop, "batch": batch, "precision": args.precision, "device": args.device,
            "device_name": torch.cuda.get_device_name() if on_gpu else None, "memory_format": args.memory_format,
            "threads": torch.get_num_threads(), "torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if on_gpu else None, "fused_sgd": fused(torch.device(args.device)),
            "steps": args.steps}


def run(args, batch, compiled):
    # Nothing of the case before: what torch.compile knows of another batch would make this one's shapes dynamic.
    gc.collect()
    if hasattr(torch, "_dynamo"):
        torch._dynamo.reset()
    if args.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = step_seconds((Labeller if args.infer else Trainer)(args, batch, compiled), args)
    median = statistics.median(times)
    peak = (torch.cuda.max_memory_allocated() if args.device == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {"step_ms": 1000 * median, "step_ms_min": 1000 * min(times), "step_ms_max": 1000 * max(times),
            "images_per_s": batch / median, "peak_bytes": peak}


def main():
    args = arguments()
    args.precision = args.precision or ("bf16" if args.device == "cuda" else "fp32")
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU — nothing can be timed there — use --device cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    print(f"PyTorch {torch.__version__}, {args.backbone}, crop {args.crop}, {args.precision}, {args.memory_format}")
    print(f"{'mode':8} {'batch':>5} {'ms/step':>9} {'min':>9} {'images/s':>9} {'peak GiB':>9}")
    failed = False
    for batch, compiled in [(b, False) for b in args.batch] + [(b, True) for b in args.compile]:
        case = about(args, batch, compiled)
        try:
            case |= run(args, batch, compiled)
            print(f"{case['mode']:8} {batch:5} {case['step_ms']:9.2f} {case['step_ms_min']:9.2f} "
                  f"{case['images_per_s']:9.2f} {case['peak_bytes'] / 2**30:9.2f}", flush=True)
        except Exception as error:  # whatever it is, it is this case's alone
            failed = True
            case["error"] = f"{type(error).__name__}: {error}"[:1000]
            print(f"{case['mode']:8} {batch:5} failed: {case['error'].splitlines()[0]}", flush=True)
        if args.json:
            with args.json.open("a") as file:
                file.write(json.dumps(case) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
