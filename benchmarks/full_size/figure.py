"""The figure of a comparison at full size."""

import csv
import os
import sys

import numpy as np
from limits import FIRST_STEPS, GRADIENT_LIMIT, SMALL_LR_LIMIT

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from figures import pyplot  # noqa: E402


def plot(out):
    """A figure of every csv of the folder."""
    plt = pyplot()
    if plt is None:
        return
    tables = {}
    for name in sorted(os.listdir(out)):
        if name.endswith(".csv"):
            with open(os.path.join(out, name)) as f:
                tables[name[:-4]] = list(csv.DictReader(f))
    columns = min(4, len(tables))
    lines = -(-len(tables) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.6 * columns, 3.6 * lines), squeeze=False)
    for axis in axes.flat[len(tables):]:
        axis.set_visible(False)
    for axis, (name, rows) in zip(axes.flat, tables.items()):
        def column(key):
            return np.array([float(row[key]) for row in rows])
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        if "parameter" in rows[0]:
            for key, color in (("pytorch_float32", "0.6"), ("ours", "C0")):
                axis.plot(np.maximum(column(key), 1e-12), ".", color=color, markersize=4,
                          label=f"{key.replace('_', ' ')} – float64")
            if "kinkfree" in name:
                axis.axhline(GRADIENT_LIMIT, color="C3", linewidth=1, label="limit")
            axis.set_xlabel("parameter")
            axis.set_ylabel("gradient's relative error")
        elif "start" in rows[0]:
            for key, color, shift in (("pytorch32", "0.6", 0.1), ("ours", "C0", -0.1)):
                axis.plot(column("step") + shift, np.maximum(column(f"{key}_from_float64"), 1e-9), "o", color=color,
                          markersize=4, label=key.replace("32", " float32"))
            axis.set_xticks(range(1, 1 + FIRST_STEPS))
            axis.set_xlabel("step")
            axis.set_ylabel("loss's relative distance from float64")
        else:
            steps = column("step")
            for key in rows[0]:
                if key.startswith(("permuted", "channels_last")):
                    other = key.startswith("channels_last")
                    axis.plot(steps, np.maximum(column(key), 1e-9), "--" if other else "-", color="0.7",
                              linewidth=1, label="PyTorch, channels_last" if other else
                              "PyTorch, permuted" if key.startswith("permuted1_") else None)
            axis.plot(steps, np.maximum(column("ours_difference"), 1e-9), color="C0", label="ours")
            if "limit" in rows[0]:
                axis.plot(steps, column("limit"), color="C3", linewidth=1, label="limit")
            else:
                axis.axhline(SMALL_LR_LIMIT, color="C3", linewidth=1, label="limit")
            axis.set_xlabel("step")
            axis.set_ylabel("loss's relative difference from PyTorch")
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(os.path.join(out, "comparison.png"), dpi=110)
