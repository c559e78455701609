#!/usr/bin/env python3
"""Redoes an evaluation of deeplab-eval in NumPy and PIL, given the network's output, and compares.

usage: evaluate.py --images DIR --masks DIR --logits DIR --json FILE [--summary FILE]

  --images, --masks   ID.jpg and ID.png (VOC: JPEGImages and SegmentationClassAug)
  --logits, --json    what deeplab-eval --save-logits DIR --json FILE wrote
  --summary           figures of the comparison, as JSON

From the images it makes every picture that the network should have seen (protocol, scales, mirror, normalisation,
padding) and compares checksums with what the network did see; from the network's output it goes on to labels and to a
confusion matrix by itself: resize to the image, average of softmax over scales and mirror, largest. Every checksum and
every cell of the matrix must be equal, the metrics to 1e-12.

Arithmetic: float32, each operation rounded, in the order written here; the exponential in float64, rounded to float32.

Exit 0: the same. Exit 1: it is not; what differs is printed. Exit 77: NumPy or PIL is missing.
"""
import argparse
import json
import math
import os
import sys
import zlib

try:
    import numpy as np
    from PIL import Image
except ImportError as problem:
    print(f"skipped: {problem}")
    sys.exit(77)

CROP = 513  # of the protocol centre-crop
F = np.float32
problems = []


def check(same, what):
    if not same:
        problems.append(what)


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


# ---- what the network sees

def centre_crop(image, mask):
    """Short side to CROP, the long one in proportion and rounded down, the square in the middle (round() to even)."""
    width, height = image.size
    size = (int(width * CROP / height), CROP) if width > height else (CROP, int(height * CROP / width))
    x, y = (round((side - CROP) / 2) for side in size)
    box = (x, y, x + CROP, y + CROP)
    return image.resize(size, Image.BILINEAR).crop(box), mask.resize(size, Image.NEAREST).crop(box)


def scaled(image, scale):
    size = tuple(max(1, math.floor(side * scale + 0.5)) for side in image.size)
    return image if size == image.size else image.resize(size, Image.BILINEAR)


def network_input(pixels, stride, mean, std, align_corners):
    """(3, H, W) normalised, in the upper left corner of zeros; sides of the next multiple of the stride plus one,
    or the image's own where corners are not aligned."""
    planes = ((pixels.astype(F) / F(255) - F(mean)) / F(std)).transpose(2, 0, 1)
    sides = [max(-(-(side - 1) // stride), 1) * stride + 1 if align_corners else max(side, stride + 1)
             for side in planes.shape[1:]]
    padded = np.zeros((3, *sides), F)
    padded[:, :planes.shape[1], :planes.shape[2]] = planes
    return padded


# ---- from the network's output to labels

def taps(inputs, outputs, wanted, align_corners):
    """For the first `wanted` of `outputs` positions: two inputs and the weight of the second, as torch interpolates."""
    o = np.arange(wanted, dtype=F)
    if align_corners:
        s = o * (F(inputs - 1) / F(outputs - 1)) if outputs > 1 else o * F(0)
    else:
        s = np.maximum((o + F(0.5)) * (F(inputs) / F(outputs)) - F(0.5), F(0))
    first = np.minimum(s.astype(np.int64), inputs - 1)
    return first, np.minimum(first + 1, inputs - 1), s - first.astype(F)


def resize(planes, vertical, horizontal):
    """Rows first, then columns."""
    first, second, t = vertical
    t = t[None, :, None]
    planes = (F(1) - t) * planes[:, first] + t * planes[:, second]
    first, second, t = horizontal
    return (F(1) - t) * planes[:, :, first] + t * planes[:, :, second]


def at_image_size(logits, padded, image, align_corners):
    """The grid spans the padded input; only the image's part is made."""
    axes = [taps(inputs, outputs, wanted, align_corners) for inputs, outputs, wanted in zip(logits.shape[1:], padded, image)]
    return resize(logits, *axes)


def softmax(logits):
    exponentials = np.exp((logits - logits.max(0)).astype(np.float64)).astype(F)
    total = np.zeros(logits.shape[1:], F)
    for plane in exponentials:  # in the order of the classes
        total += plane
    return exponentials / total


def labels_of(record, image, options, folder):
    """Checks the passes of one image and turns their logits into labels."""
    stride, where, corners = options["output_stride"], record["id"], options.get("align_corners", True)
    wanted = [(scale, flip) for scale in options["scales"] for flip in ([False, True] if options["flip"] else [False])]
    check([(p["scale"], p["flip"]) for p in record["passes"]] == wanted, f"{where}: the passes are not {wanted}")
    plain = wanted == [(1, False)]
    weight, height, width = F(1) / F(len(wanted)), image.height, image.width
    scores = np.zeros((options["classes"], height, width), F)
    for entry, (scale, flip) in zip(record["passes"], wanted):
        picture = np.asarray(scaled(image, scale))
        picture = picture[:, ::-1] if flip else picture
        padded = network_input(picture, stride, options["mean"], options["std"], corners)
        what = f"{where}, scale {scale}{', mirrored' if flip else ''}"
        check(entry["image_crc32"] == crc(picture), f"{what}: the network saw another picture")
        check(entry["input_crc32"] == crc(padded), f"{what}: the network's input was another")
        logits = np.load(os.path.join(folder, entry["file"]))
        check(logits.dtype == F and logits.shape[0] == options["classes"], f"{what}: logits of another kind")
        logits = at_image_size(logits, padded.shape[1:], picture.shape[:2], corners)
        if plain:  # the largest logit has the largest softmax
            return logits.argmax(0)
        probabilities = resize(softmax(logits), taps(picture.shape[0], height, height, False),
                               taps(picture.shape[1], width, width, False))
        scores += weight * (probabilities[:, :, ::-1] if flip else probabilities)
    return scores.argmax(0)


# ---- metrics

def metrics_of(matrix):
    """[truth, predicted] pixels, as integers."""
    rows, columns, hits = matrix.sum(1).tolist(), matrix.sum(0).tolist(), matrix.diagonal().tolist()
    total = sum(rows)
    iou = [hit / (row + column - hit) if row + column else None for row, column, hit in zip(rows, columns, hits)]
    seen = [v for v in iou if v is not None]
    accuracies = [hit / row for row, hit in zip(rows, hits) if row]
    return {"pixel_accuracy": sum(hits) / total, "mean_pixel_accuracy": sum(accuracies) / len(accuracies),
            "miou": sum(seen) / len(seen),
            "fwiou": sum(row * v for row, v in zip(rows, iou) if row) / total}, iou


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--images", "--masks", "--logits", "--json"):
        parser.add_argument(name, required=True)
    parser.add_argument("--summary")
    arguments = parser.parse_args()
    result, options = read(arguments.json), read(os.path.join(arguments.logits, "logits.json"))
    for key in ("split", "protocol", "images", "scales", "flip", "output_stride"):
        check(result[key] == options[key], f"{key}: {result[key]} in the result, {options[key]} with the logits")
    records = options["records"]
    check([r["index"] for r in records] == list(range(result["images"])), "not every image once")

    classes = options["classes"]
    matrix = np.zeros((classes, classes), np.int64)
    for record in records:
        image = Image.open(os.path.join(arguments.images, record["id"] + ".jpg")).convert("RGB")
        mask = Image.open(os.path.join(arguments.masks, record["id"] + ".png"))
        if options["protocol"] == "centre-crop":
            image, mask = centre_crop(image, mask)
        truth = np.asarray(mask)
        check((record["width"], record["height"]) == image.size, f"{record['id']}: another size")
        check(record["image_crc32"] == crc(image), f"{record['id']}: another image")
        check(record["truth_crc32"] == crc(truth), f"{record['id']}: another truth")
        predicted = labels_of(record, image, options, arguments.logits)
        valid = truth < classes
        cells = truth[valid].astype(np.int64) * classes + predicted[valid]
        matrix += np.bincount(cells, minlength=classes * classes).reshape(classes, classes)

    theirs = np.array(result["confusion"], np.int64)
    for truth, predicted in np.argwhere(matrix != theirs):
        check(False, f"confusion[{truth}][{predicted}]: {theirs[truth, predicted]}, and {matrix[truth, predicted]} here")
    metrics, iou = metrics_of(matrix)
    errors = [abs(result[key] - value) for key, value in metrics.items()]
    for ours, theirs_iou in zip(iou, result["class_iou"].values()):
        check((ours is None) == (theirs_iou is None), "a class's IoU is defined here or there only")
        errors += [abs(ours - theirs_iou)] if None not in (ours, theirs_iou) else []
    check(max(errors) <= 1e-12, f"metrics differ by {max(errors)}")

    for problem in problems[:20]:
        print("problem:", problem)
    if len(problems) > 20:
        print(f"… and {len(problems) - 20} more")
    cells = int((matrix != theirs).sum())
    print(f"protocol {options['protocol']}, scales {options['scales']}, flip {options['flip']}: {len(records)} images, "
          f"{matrix.sum()} pixels, {np.count_nonzero(matrix.sum(0))} classes predicted; {cells} cells differ, "
          f"metrics by {max(errors):.1e} at most; {len(problems)} problems")
    if arguments.summary:
        with open(arguments.summary, "w", encoding="utf-8") as file:
            json.dump({"images": len(records), "pixels": int(matrix.sum()),
                       "passes": sum(len(r["passes"]) for r in records),
                       "classes_predicted": int(np.count_nonzero(matrix.sum(0))), "cells_that_differ": cells,
                       "metrics_largest_difference": max(errors), "problems": len(problems), **metrics}, file, indent=1)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
