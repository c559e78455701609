#!/usr/bin/env python3
"""Runs every deeplab-bench of the CPU once and keeps what a folder of results/ wants: a CSV each, summary.json, environment.txt,
and a figure each (SVG, needs matplotlib). Wants an otherwise idle machine for about ten minutes.

    record.py --data shards --out results/…             # without --data: all but the loader
    record.py --out try --backbone resnet18 --crop 65   # seconds
    record.py --out results/… --draw                    # the figures again
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from figures import pyplot

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = "SCRATCH"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=ROOT / "build" / "bin" / "deeplab-bench", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--data", help="packed shards, for the loader")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--crop", default="513")
    parser.add_argument("--batch", default="2")
    parser.add_argument("--ranks", default="2", help="of comm")
    parser.add_argument("--draw", action="store_true", help="only the figures")
    return parser.parse_args()


def commands(options):
    """Of each bench: launcher and arguments."""
    size = ["--backbone", options.backbone, "--crop", options.crop, "--batch", options.batch]
    mpirun = ["mpirun", "-np", options.ranks, "--bind-to", "none"]
    benches = {"loader": ([], ["--data", options.data])} if options.data else {}
    return benches | {
        "kernels": ([], size),
        "step": ([], [*size, "--steps", "5", "--warmup", "1"]),
        "infer": ([], size[:4]),
        "startup": ([], size),
        "comm": (mpirun, []),
        "checkpoint": ([], ["--backbone", options.backbone, "--out", SCRATCH]),
    }


def run(options):
    summary, environment = {}, {}
    (options.out / "summary.json").unlink(missing_ok=True)
    for name, (launcher, chosen) in commands(options).items():
        with tempfile.TemporaryDirectory(dir=options.out) as scratch:
            chosen = [scratch if a == SCRATCH else a for a in chosen]
            out = pathlib.Path(scratch) / "out.json"
            command = [*launcher, options.bench, name, *chosen, "--json", out, "--csv", options.out / f"{name}.csv"]
            print(f"=== {name}", flush=True)
            status = subprocess.run(command, env=dict(os.environ, OMP_WAIT_POLICY="passive")).returncode
            if status:
                sys.exit(f"record.py: deeplab-bench {name} ended with {status} — nothing was recorded of it — see above")
            result = json.loads(out.read_text())
        summary |= {key: float(f"{value:.4g}") for key, value in result["summary"].items()}
        environment = result["environment"]
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    width = max(map(len, environment))
    (options.out / "environment.txt").write_text("".join(f"{k:{width}}  {v}\n" for k, v in environment.items()))


# --- Figures: one function a bench, from its CSV ---


def group(op):
    """What a row of `kernels` belongs to."""
    passes = {"Conv2d": "forward", "Conv2dGradData": "data", "Conv2dGradWeights": "weights"}
    return f"convolution, {passes[op]}" if op in passes else "batch norm" if op.startswith("BatchNorm") else "other"


def draw_kernels(axis, rows):
    """Where the time goes, and at which rate: a point an op."""
    rows = [r for r in rows if r["percent_of_peak"] != "null"]
    for name in sorted({group(r["op"]) for r in rows}):
        of = [r for r in rows if group(r["op"]) == name]
        axis.plot([float(r["total_ms"]) for r in of], [float(r["percent_of_peak"]) for r in of], "o", markersize=4, alpha=0.7,
                  label=name)
    axis.axhline(100, color="0.4", linewidth=1)
    axis.set_xscale("log")
    axis.set_xlabel("ms of a step")
    axis.set_ylabel("percent of the measured peak")
    axis.legend(fontsize=8)


def bars(axis, names, values, label):
    axis.barh(range(len(names)), values, color="C0")
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(label)


def draw_step(axis, rows):
    rows = [r for r in rows if r["part"] != "sum of the parts"]
    bars(axis, [r["part"] for r in rows], [float(r["ms"]) for r in rows], "ms of a step")


def draw_startup(axis, rows):
    bars(axis, [r["stage"].replace("_", " ") for r in rows], [float(r["ms"]) for r in rows], "ms")


def draw_checkpoint(axis, rows):
    bars(axis, [f"{r['part']}: {r['what']}" for r in rows], [float(r["ms"]) for r in rows], "ms")


def draw_loader(axis, rows):
    bars(axis, [r["stage"] for r in rows], [float(r["cpu_ms_per_image_1_worker"]) for r in rows], "ms of CPU an image")


def draw_comm(axis, rows):
    for name in sorted({r["message"] for r in rows}):
        of = sorted((float(r["bytes"]), float(r["bus_gb_per_s"])) for r in rows if r["message"] == name)
        axis.plot(*zip(*of), "o", markersize=4, label=name)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("bytes of a message")
    axis.set_ylabel("bus bandwidth, GB/s")
    axis.legend(fontsize=8)


def draw(out):
    plt = pyplot()
    if plt is None:
        return
    plt.rcParams["svg.hashsalt"] = "deeplab"
    for name in ("kernels", "step", "startup", "checkpoint", "loader", "comm"):
        path = out / f"{name}.csv"
        if not path.exists():
            continue
        with path.open() as file:
            rows = list(csv.DictReader(file))
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        globals()[f"draw_{name}"](axis, rows)
        axis.grid(alpha=0.3)
        axis.set_title(f"deeplab-bench {name}", fontsize=10)
        figure.tight_layout()
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out, options.bench = options.out.resolve(), options.bench.resolve()
    if not options.draw:
        run(options)
    draw(options.out)


if __name__ == "__main__":
    main()
