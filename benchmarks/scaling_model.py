#!/usr/bin/env python3
"""Predicts the step of N ranks from a step measured on one, for the three kinds of synchronized batch norm.

    deeplab-bench step --device cuda --batch 16 --json step.json
    scaling_model.py step.json --interconnect benchmarks/interconnects/h100_hdr.json --ranks 1 8 64 1024 --out OUT

The measurement's "messages" say how much each bucket of gradients and each batch-norm exchange sends and how long the work behind
it lets it hide; the interconnect file says what a message costs. An all-reduce over n ranks of one level takes
    2 ceil(log2 n) latency + 2 (n - 1)/n bytes / bandwidth,
over more than a node: that of a node, and that over the nodes of a GPU's share. An exchange costs what it does not hide; buckets
go one after the other, each not before it is ready, and what ends after the last node's work is exposed. Local batch norm sends
nothing. Every rank is as fast as the measured one: stragglers, other jobs' traffic and input are not in the model.
Writes OUT/prediction.csv, prediction.svg (with matplotlib) and prints a table.
"""

import argparse
import csv
import json
import math
import pathlib

from figures import pyplot

KINDS = ("global", "node", "none")


def level(n, size, link):
    """Seconds of an all-reduce of `size` bytes over n equal neighbours."""
    if n <= 1:
        return 0.0
    return 2 * math.ceil(math.log2(n)) * link["latency_us"] * 1e-6 + 2 * (n - 1) / n * size / (link["bandwidth_gb_s"] * 1e9)


def all_reduce(ranks, size, interconnect):
    in_node = min(ranks, interconnect["gpus_per_node"])
    nodes = math.ceil(ranks / interconnect["gpus_per_node"])
    return level(in_node, size, interconnect["node"]) + level(nodes, size / in_node, interconnect["cluster"])


def step_seconds(ranks, kind, step, messages, interconnect):
    """(seconds of a step, exposed by batch norm, exposed by gradients)."""
    group = {"global": ranks, "node": min(ranks, interconnect["gpus_per_node"]), "none": 1}[kind]
    exchanges = sum(max(0.0, all_reduce(group, e["elements"] * interconnect["batch_norm_element_bytes"], interconnect) - e["hidden_s"])
                    for e in messages["exchanges"])
    scale = step / messages["nodes_s"]  # nodes are timed one by one, a little slower than a whole step
    free = 0.0
    for bucket in messages["buckets"]:
        free = max(free, bucket["ready_s"] * scale) + all_reduce(ranks, bucket["elements"] * interconnect["element_bytes"], interconnect)
    gradients = max(0.0, free - step) if ranks > 1 else 0.0
    return step + exchanges + gradients, exchanges, gradients


def measurement(path):
    """(seconds of a step, its messages, images of a rank) of a file that deeplab-bench step wrote."""
    data = json.loads(pathlib.Path(path).read_text())
    milliseconds = next(v for k, v in data["summary"].items() if k.endswith("_ms") and not k.endswith("exposed_ms"))
    return milliseconds / 1e3, data["settings"]["messages"], data["settings"]["batch_per_rank"]


def predict(step, messages, batch, interconnect, ranks):
    rows = []
    for kind in KINDS:
        for n in ranks:
            seconds, exchanges, gradients = step_seconds(n, kind, step, messages, interconnect)
            rows.append({"sync_bn": kind, "ranks": n, "step_ms": 1e3 * seconds, "images_per_s": n * batch / seconds,
                         "efficiency": step / seconds, "exchanges_ms": 1e3 * exchanges, "gradients_ms": 1e3 * gradients})
    return rows


def draw(rows, title, file, measured=()):
    """`measured`: (ranks, efficiency) to draw beside what is predicted."""
    plt = pyplot()
    if plt is None:
        return
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    for kind, style in zip(KINDS, ("o-", "s--", "^:")):
        own = [r for r in rows if r["sync_bn"] == kind]
        axis.plot([r["ranks"] for r in own], [100 * r["efficiency"] for r in own], style, label=f"sync_bn = {kind}")
    if measured:
        axis.plot([r for r, _ in measured], [100 * e for _, e in measured], "kx", markersize=9, label="measured")
    axis.set_xscale("log", base=2)
    axis.set_ylim(0, 105)
    axis.set_xlabel("ranks")
    axis.set_ylabel("weak-scaling efficiency, %")
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", type=pathlib.Path, help="deeplab-bench step --json FILE, of one rank")
    parser.add_argument("--interconnect", type=pathlib.Path, required=True)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2**i for i in range(11)])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    interconnect = json.loads(options.interconnect.read_text())
    step, messages, batch = measurement(options.step)
    rows = predict(step, messages, batch, interconnect, options.ranks)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "prediction.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)
    draw(rows, f"{interconnect['name']}, local batch {batch}", options.out / "prediction.svg")
    print(f"predicted, not measured: {interconnect['name']}; local batch {batch}, {1e3 * step:.1f} ms a step on one rank")
    print(f"{'sync_bn':8} {'ranks':>6} {'ms/step':>9} {'images/s':>10} {'efficiency':>10} {'exchanges':>10} {'gradients':>10}")
    for r in rows:
        print(f"{r['sync_bn']:8} {r['ranks']:6} {r['step_ms']:9.2f} {r['images_per_s']:10.1f} {100 * r['efficiency']:9.1f}% "
              f"{r['exchanges_ms']:10.3f} {r['gradients_ms']:10.3f}")


if __name__ == "__main__":
    main()
