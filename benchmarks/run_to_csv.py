#!/usr/bin/env python3
"""Turns RUN/metrics.jsonl into OUT/train.csv and OUT/eval.csv, and draws OUT/loss.svg with gnuplot where it is installed.

usage: run_to_csv.py RUN OUT
"""
import csv
import json
import pathlib
import shutil
import subprocess
import sys

TRAIN = ["step", "loss", "lr", "images_per_s", "data_wait", "comm_exposed"]
EVAL = ["step", "split", "protocol", "pixel_accuracy", "mean_pixel_accuracy", "miou", "fwiou", "images"]

GNUPLOT = """
set terminal svg size 800,420 font 'sans,12' background rgb 'white'
set output 'loss.svg'
set datafile separator ','
set key top right
set grid lc rgb '#dddddd'
set xlabel 'step'
set ylabel 'loss (mean over valid pixels)'
set y2label 'mIoU on val'
set y2tics
set ytics nomirror
set yrange [0:*]
set y2range [0:*]
plot 'train.csv' using 1:2 skip 1 with lines lc rgb '#1f77b4' title 'training loss', \
     'eval.csv' using 1:6 skip 1 axes x1y2 with linespoints pt 7 lc rgb '#d62728' title 'val mIoU'
"""


def write(path, columns, rows):
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    run, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    write(out / "train.csv", TRAIN, [line for line in lines if "loss" in line])
    write(out / "eval.csv", EVAL, [line for line in lines if "miou" in line])
    if not any("miou" in line for line in lines):
        print("no evaluation yet: loss.svg was not drawn")
    elif shutil.which("gnuplot"):
        subprocess.run(["gnuplot"], input=GNUPLOT, text=True, check=True, cwd=out)
    else:
        print("no gnuplot: loss.svg was not drawn")


main()
