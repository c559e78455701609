#!/usr/bin/env python3
"""Our training step on the CPU beside PyTorch's, in turn: same network, batch, threads and SGD, fp32, data on hand. A case
that begins with infer: measures the labels of an image as evaluation and prediction compute them, from 8-bit pixels through
normalisation, network, upsampling and arg max, in place of a step.

Each round runs every side once, each in a process of its own; a ratio is that of one round (PyTorch's seconds / ours: above 1 we
are faster), against the side of PyTorch with the lowest median, and the median over rounds is given with its range. Peak memory is
the process's largest resident set. Results go to OUT: rounds.csv, summary.json, ratios.svg; a table is printed.

    cpu_side_by_side.py --python debian=/usr/bin/python3 --python newest=venv/bin/python --out results/…
    cpu_side_by_side.py --case infer:resnet101:513:1 --mode channels_last --mode compile --out results/…
    cpu_side_by_side.py --case resnet18:65:2 --rounds 2 --steps 2 --out try
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import typing

from figures import pyplot

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["resnet50:257:4", "resnet101:257:4", "resnet50:513:2", "resnet101:513:2"]
MODES = [layout + memory for layout in ("channels_last", "contiguous", "compile") for memory in ("", "_kept")]
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28),  # glibc
        "THP_MEM_ALLOC_ENABLE": "1"}  # PyTorch from 2.0 on
COLUMNS = ["kind", "backbone", "crop", "batch", "round", "side", "step_s", "images_per_s", "peak_bytes"]


class Case(typing.NamedTuple):
    kind: str  # train, infer
    backbone: str
    crop: int
    batch: int


def case_of(text):
    parts = text.split(":")
    kind = parts.pop(0) if parts[0] in ("train", "infer") else "train"
    try:
        backbone, crop, batch = parts
        case = Case(kind, backbone, int(crop), int(batch))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not [infer:]BACKBONE:CROP:BATCH") from None
    if kind == "infer" and case.batch != 1:
        raise argparse.ArgumentTypeError(f"{text}: evaluation and prediction take one image at a time: its batch is 1")
    return case


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=ROOT / "build" / "bin" / "deeplab-bench", type=pathlib.Path)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=FILE",
                        help="an interpreter with PyTorch (default: this one); repeatable")
    parser.add_argument("--case", action="append", default=[], type=case_of, metavar="[infer:]BACKBONE:CROP:BATCH",
                        help=f"repeatable (default: {' '.join(CASES)})")
    parser.add_argument("--mode", action="append", default=[], choices=MODES,
                        help="of PyTorch, repeatable (default: channels_last and contiguous, each also _kept); compile: "
                        "channels_last, from 2.0 on; _kept: the process keeps memory that was freed, in huge pages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="counted, of each run; their median is taken")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.python = dict(p.split("=", 1) for p in options.python or [f"python={sys.executable}"])
    options.mode = options.mode or [m for m in MODES if not m.startswith("compile")]
    options.case = options.case or [case_of(c) for c in CASES]
    return options


def peak_of(command, environment):
    """Runs it to its end; bytes of its largest resident set."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{log.read().decode()}")
    return usage.ru_maxrss * 1024


def take_turn(options, side, case):
    """(seconds of a step or an image, bytes) of one side in one round."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), OMP_WAIT_POLICY="passive")
    common = ["--backbone", case.backbone, "--crop", str(case.crop), "--steps", str(options.steps), "--warmup", "1",
              "--device", "cpu", "--threads", str(options.threads)]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        if side == "ours":
            command = ["infer"] if case.kind == "infer" else ["step", "--batch", str(case.batch), "--whole"]
            peak = peak_of([options.bench, *command, *common, "--json", out], environment)
            summary = json.loads(out.read_text())["summary"]
            return next(v for k, v in summary.items() if k.endswith("_fp32_ms")) / 1000, peak
        name, mode = side
        command = [options.python[name], ROOT / "benchmarks" / "pytorch_baseline.py", *common, "--json", out]
        layout = mode.removesuffix("_kept")
        command += ["--batch", "--compile", str(case.batch)] if layout == "compile" else ["--batch", str(case.batch)]
        command += ["--infer"] if case.kind == "infer" else []
        command += ["--memory-format", "contiguous" if layout == "contiguous" else "channels_last"]
        peak = peak_of(command, environment | (KEPT if mode.endswith("_kept") else {}))
        return json.loads(out.read_text().splitlines()[0])["step_ms"] / 1000, peak


def label(side):
    return side if side == "ours" else "_".join(side)


def name_of(case):
    return f"{case.kind} {case.backbone} {case.crop} batch {case.batch}"


def measure(options, case, writer):
    """Runs all rounds of a case; seconds and peak bytes by side."""
    sides = ["ours"] + [(name, mode) for name in options.python for mode in options.mode
                        if not mode.startswith("compile") or options.compiles[name]]
    seconds, peaks = {s: [] for s in sides}, {s: 0 for s in sides}
    for number in range(options.rounds):
        for side in sides:
            time, peak = take_turn(options, side, case)
            seconds[side].append(time)
            peaks[side] = max(peaks[side], peak)
            writer.writerow([*case, number + 1, label(side), f"{time:.6g}", f"{case.batch / time:.6g}", peak])
            print(f"{name_of(case)}  round {number + 1}  {label(side):24} {time:8.3f} s  "
                  f"{peak / 2**30:.2f} GiB", flush=True)
    return seconds, peaks


def summarise(case, seconds, peaks):
    prefix = f"{case.kind}_{case.backbone.replace('resnet', 'r')}_{case.crop}_batch{case.batch}_"
    summary = {}
    for side, times in seconds.items():
        middle = "" if side == "ours" else f"pytorch_{label(side)}_"
        summary[f"{prefix}{middle}images_per_s"] = case.batch / statistics.median(times)
        summary[f"{prefix}{middle}peak_gib"] = peaks[side] / 2**30
    best = min((s for s in seconds if s != "ours"), key=lambda s: statistics.median(seconds[s]))
    ratios = [theirs / mine for theirs, mine in zip(seconds[best], seconds["ours"])]
    summary |= {f"{prefix}ratio": statistics.median(ratios), f"{prefix}ratio_min": min(ratios),
                f"{prefix}ratio_max": max(ratios), f"{prefix}memory_ratio": peaks["ours"] / peaks[best]}
    line = (f"| {case.kind} | {case.backbone} | {case.crop} | {case.batch} | {summary[prefix + 'images_per_s']:.2f} | "
            f"{case.batch / statistics.median(seconds[best]):.2f} ({label(best).replace('_', ' ')}) | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {peaks['ours'] / 2**30:.2f} | "
            f"{peaks[best] / 2**30:.2f} |")
    return {k: float(f"{v:.4g}") for k, v in summary.items()}, line, ratios


def draw(out, ratios):
    plt = pyplot()
    if plt is None:
        return
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for at, values in enumerate(ratios.values()):
        axis.plot([at] * len(values), values, "o", color="C0", alpha=0.5)
        axis.plot([at - 0.2, at + 0.2], [statistics.median(values)] * 2, color="C0")
    axis.axhline(1, color="0.4", linewidth=1)
    axis.set_xticks(range(len(ratios)), list(ratios))
    axis.set_ylim(bottom=0)
    axis.set_ylabel("PyTorch's time / ours")
    axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(out / "ratios.svg", metadata={"Date": None})


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    options.compiles, versions = {}, {}
    for name, python in options.python.items():
        asked = subprocess.run([python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
        if asked.returncode:
            sys.exit(f"{python} (--python {name}) has no PyTorch — there is nothing to compare with — give another\n{asked.stderr}")
        versions[name] = asked.stdout.strip()
        options.compiles[name] = int(versions[name].split(".")[0]) >= 2
    print(", ".join(f"{n}: PyTorch {v}" for n, v in versions.items()), f"; {options.threads} threads", flush=True)
    path = options.out / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {}
    rounds = options.out / "rounds.csv"
    fresh = not rounds.exists()
    if not fresh and rounds.read_text().splitlines()[:1] != [",".join(COLUMNS)]:
        sys.exit(f"{rounds} has other columns than {','.join(COLUMNS)} — rows would be misread — give another --out")
    lines, ratios = [], {}
    with rounds.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        if fresh:
            writer.writerow(COLUMNS)
        for case in options.case:
            numbers, line, of_rounds = summarise(case, *measure(options, case, writer))
            summary |= numbers
            lines.append(line)
            ratios[f"{case.kind} {case.backbone.replace('resnet', 'R')}\n{case.crop}, batch {case.batch}"] = of_rounds
            path.write_text(json.dumps(summary, indent=1) + "\n")
    draw(options.out, ratios)
    print("\n| what | network | crop | batch | ours, images/s | PyTorch's best, images/s | ratio (range) | ours, peak GiB | PyTorch, peak GiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
