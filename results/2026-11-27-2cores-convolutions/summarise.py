"""summary.json and times.svg from kernels_before.csv and kernels_after.csv: ms of a step by kind of convolution."""
import csv
import json
import pathlib
import sys

out = pathlib.Path(sys.argv[1])
PASSES = {"Conv2d": "forward", "Conv2dGradData": "data", "Conv2dGradWeights": "weights"}


def kind(row):
    if row["op"] not in PASSES or "stride" not in row["attributes"]:
        return None
    kernel = row["w"].split("x", 2)[2]
    rate = row["attributes"].rpartition("dilation ")[2] if "dilation" in row["attributes"] else ""
    if kernel not in ("1x1", "3x3"):
        return "7x7"
    if "stride 2" in row["attributes"]:
        return "stride 2"
    return "3x3, rates 12, 18" if rate in ("12", "18") else kernel


sums = {}
for when in ("before", "after"):
    for row in csv.DictReader((out / f"kernels_{when}.csv").open()):
        if kind(row):
            key = f"{kind(row)}: {PASSES[row['op']]}"
            sums.setdefault(key, {"before": 0, "after": 0})[when] += float(row["total_ms"])
keys = sorted(sums, key=lambda k: -sums[k]["before"])
total = {when: sum(s[when] for s in sums.values()) for when in ("before", "after")}
same = {when: sum(sums[f"1x1: {p}"][when] for p in ("forward", "data")) for when in total}
summary = {"convolutions_before_ms": round(total["before"]), "convolutions_after_ms": round(total["after"]),
           "convolutions_ratio": round(total["before"] / total["after"], 2),
           "unchanged_1x1_ratio": round(same["before"] / same["after"], 2),
           "by_kind": {k: {w: round(v) for w, v in sums[k].items()} for k in keys}}
(out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
for k in keys:
    print(f"| {k} | {sums[k]['before']:.0f} | {sums[k]['after']:.0f} | {sums[k]['before'] / sums[k]['after']:.2f} |")
print(summary)

import matplotlib  # noqa: E402
matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "deeplab"
import matplotlib.pyplot as plt  # noqa: E402
figure, axis = plt.subplots(figsize=(6.4, 4.4))
for at, (when, color) in enumerate((("before", "0.7"), ("after", "C0"))):
    axis.barh([i + 0.4 * at for i in range(len(keys))], [sums[k][when] for k in keys], 0.4, color=color, label=when)
axis.set_yticks([i + 0.2 for i in range(len(keys))], keys, fontsize=8)
axis.invert_yaxis()
axis.set_xlabel("ms of a step")
axis.grid(axis="x", alpha=0.3)
axis.legend()
figure.tight_layout()
figure.savefig(out / "times.svg", metadata={"Date": None})
