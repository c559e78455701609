#!/usr/bin/env python3
"""Writes the report of a scaling sweep (jobs/scaling.sh): DIR/README.md, scaling.csv, summary.json and, with matplotlib, figures.

    scaling_report.py DIR [--interconnect benchmarks/interconnects/h100_hdr.json]

Weak: the local batch stays, efficiency = images/s / (ranks x images/s of the smallest size's rank). Strong: the global batch stays,
speed-up = its step's time / this step's time. Points whose ranks share processors are marked and called what they are.
"""

import argparse
import csv
import json
import pathlib
import re
import sys

import scaling_model
from figures import pyplot


def threads_of(data):
    found = re.search(r"(\d+) thread", data["settings"].get("device", ""))
    return int(found.group(1)) if found else 1


def load(folder):
    points = []
    for path in sorted(folder.glob("*-[0-9][0-9][0-9][0-9].json")):
        data = json.loads(path.read_text())
        prefix = next(k for k in data["summary"] if k.endswith("_images_per_s"))[:-len("images_per_s")]
        environment = data["environment"]
        ranks, threads = environment["ranks"], threads_of(data)
        points.append({
            "kind": path.name.split("-")[0], "size": int(path.stem.split("-")[1]), "ranks": ranks, "threads_per_rank": threads,
            "local_batch": data["settings"]["batch_per_rank"], "step_ms": data["summary"][prefix + "ms"],
            "images_per_s": data["summary"][prefix + "images_per_s"],
            "comm_exposed_ms": data["summary"][prefix + "comm_exposed_ms"],
            "file": path,
            # Of one machine: with several the processors of the first are no measure.
            "crowded": "CPU" in data["settings"]["device"] and ranks * threads > environment["processors"],
            "parts": {row["part"]: row["ms"] for row in data["rows"] if "part" in row and row["part"] != "sum of the parts"},
            "device": data["settings"]["device"]})
    return sorted(points, key=lambda p: (p["kind"], p["ranks"]))


def derive(points):
    for kind in ("weak", "strong"):
        own = [p for p in points if p["kind"] == kind]
        for p in own:
            first = own[0]
            p["speedup"] = p["images_per_s"] / first["images_per_s"]
            p["efficiency"] = p["speedup"] * first["ranks"] / p["ranks"]


def figures(points, folder):
    plt = pyplot()
    if plt is None:
        return []
    kinds = [k for k in ("weak", "strong") if any(p["kind"] == k for p in points)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds), 3.4), squeeze=False)
    for axis, kind in zip(axes.flat, kinds):
        own = [p for p in points if p["kind"] == kind]
        ranks = [p["ranks"] for p in own]
        axis.plot(ranks, [r / ranks[0] for r in ranks], "--", color="0.6", label="ideal")
        axis.plot(ranks, [p["speedup"] for p in own], "-", color="C0")
        axis.plot([p["ranks"] for p in own if not p["crowded"]], [p["speedup"] for p in own if not p["crowded"]], "o", color="C0",
                  label="measured")
        if any(p["crowded"] for p in own):
            axis.plot([p["ranks"] for p in own if p["crowded"]], [p["speedup"] for p in own if p["crowded"]], "o", color="C0",
                      markerfacecolor="white", label="ranks share processors: not scaling")
        batch = f"local batch {own[0]['local_batch']}" if kind == "weak" else f"global batch {own[0]['local_batch'] * ranks[0]}"
        axis.set_title(f"{kind}, {batch}", fontsize=10)
        axis.set_xlabel("ranks")
        axis.set_ylabel("images/s relative to the smallest size")
        axis.set_xticks(ranks)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "speedup.svg", metadata={"Date": None})

    split = [p for p in points if p["parts"]]
    if not split:
        return ["speedup.svg"]
    names = sorted({name for p in split for name in p["parts"]})
    figure, axis = plt.subplots(figsize=(1.6 + 0.9 * len(split) + 3, 3.4))
    bottoms = [0.0] * len(split)
    for i, name in enumerate(names):
        values = [p["parts"].get(name, 0) for p in split]
        axis.bar(range(len(split)), values, bottom=bottoms, label=name, color=plt.get_cmap("tab10")(i))
        bottoms = [b + v for b, v in zip(bottoms, values)]
    axis.set_xticks(range(len(split)), [f"{p['kind']}\n{p['ranks']}" for p in split])
    axis.set_xlabel("sweep, ranks")
    axis.set_ylabel("ms of rank 0, node by node")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(folder / "split.svg", metadata={"Date": None})
    return ["speedup.svg", "split.svg"]


def table(points):
    lines = ["| sweep | ranks | threads a rank | local batch | ms/step | images/s | speed-up | efficiency | exposed communication, ms |",
             "|---|---|---|---|---|---|---|---|---|"]
    for p in points:
        efficiency = "shared processors: not scaling" if p["crowded"] else f"{100 * p['efficiency']:.0f} %"
        lines.append(f"| {p['kind']} | {p['ranks']} | {p['threads_per_rank']} | {p['local_batch']} | {p['step_ms']:.1f} | "
                     f"{p['images_per_s']:.2f} | {p['speedup']:.2f} | {efficiency} | {p['comm_exposed_ms']:.1f} |")
    return "\n".join(lines)


def predictions(points, interconnect_file, folder):
    """The model beside what was measured, from the smallest weak point."""
    interconnect = json.loads(interconnect_file.read_text())
    first = next(p for p in points if p["kind"] == "weak")
    step, messages, batch = scaling_model.measurement(first["file"])
    weak = [p for p in points if p["kind"] == "weak"]
    rows = scaling_model.predict(step, messages, batch, interconnect, sorted({*(p["ranks"] for p in weak), *(2**i for i in range(11))}))
    scaling_model.draw(rows, f"predicted: {interconnect['name']}, local batch {batch}", folder / "prediction.svg",
                       [(p["ranks"], p["efficiency"]) for p in weak if not p["crowded"]])
    by_ranks = {r["ranks"]: r for r in rows if r["sync_bn"] == "global"}
    lines = [f"Interconnect: {interconnect['name']} ({interconnect['source']}).", "",
             "| ranks | predicted ms/step | measured ms/step | measured / predicted |", "|---|---|---|---|"]
    for p in weak:
        value = by_ranks[p["ranks"]]["step_ms"]
        lines.append(f"| {p['ranks']} | {value:.1f} | {p['step_ms']:.1f}{' (shared processors)' if p['crowded'] else ''} | "
                     f"{p['step_ms'] / value:.2f} |")
    lines += ["", "Predicted efficiency, not measured:", "", "| ranks | sync_bn = global | node | none |", "|---|---|---|---|"]
    for n in sorted({r["ranks"] for r in rows}):
        of = {r["sync_bn"]: r for r in rows if r["ranks"] == n}
        lines.append(f"| {n} | " + " | ".join(f"{100 * of[k]['efficiency']:.1f} %" for k in scaling_model.KINDS) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--interconnect", type=pathlib.Path)
    options = parser.parse_args()
    points = load(options.folder)
    if not points:
        sys.exit(f"{options.folder} holds no points (weak-0001.json, …) — there is nothing to report — run jobs/scaling.sh first")
    derive(points)
    columns = ["kind", "ranks", "threads_per_rank", "local_batch", "step_ms", "images_per_s", "speedup", "efficiency",
               "comm_exposed_ms", "crowded"]
    with (options.folder / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in p.items()} for p in points)
    summary = {}
    for p in points:
        name = f"scaling_{p['kind']}_ranks{p['ranks']}_batch{p['local_batch']}_"
        summary[name + "images_per_s"] = float(f"{p['images_per_s']:.4g}")
        if not p["crowded"]:
            summary[name + "efficiency"] = float(f"{p['efficiency']:.4g}")
    (options.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    text = [f"# Scaling of a training step\n\n{points[0]['device']}; generated input; `jobs/scaling.sh`.\n", table(points), ""]
    text += [f"![{name.split('.')[0]}]({name})\n" for name in figures(points, options.folder)]
    if options.interconnect and any(p["kind"] == "weak" for p in points):
        text += ["## Prediction\n", predictions(points, options.interconnect, options.folder), ""]
        if (options.folder / "prediction.svg").exists():
            text.append("![prediction](prediction.svg)\n")
    (options.folder / "README.md").write_text("\n".join(text))
    print(table(points))


if __name__ == "__main__":
    main()
