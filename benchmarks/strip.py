#!/usr/bin/env python3
"""Draws OUT.png: input | truth | prediction for the images in a quick start's folder (needs Pillow).

usage: strip.py QUICKSTART OUT.png
"""
import pathlib
import sys

from PIL import Image


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    root, rows = pathlib.Path(sys.argv[1]), []
    voc = root / "data" / "VOCdevkit" / "VOC2012"
    for prediction in sorted((root / "predictions").glob("*.png"))[:3]:
        image = Image.open(voc / "JPEGImages" / f"{prediction.stem}.jpg").convert("RGB")
        truth = Image.open(voc / "SegmentationClass" / prediction.name).convert("RGB")
        rows.append([image, truth, Image.open(prediction).convert("RGB")])
    gap, height = 4, 160
    for row in rows:
        for i, picture in enumerate(row):
            size = (picture.width * height // picture.height, height)
            row[i] = picture.resize(size, Image.NEAREST if i else Image.BILINEAR)
    width = sum(sum(p.width + gap for p in row) + 3 * gap for row in rows)
    strip = Image.new("RGB", (width, height), "white")
    x = 0
    for row in rows:
        for picture in row:
            strip.paste(picture, (x, 0))
            x += picture.width + gap
        x += 3 * gap
    strip.save(sys.argv[2], optimize=True)


main()
