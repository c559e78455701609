#!/usr/bin/env python3
"""Compares what COCO's annotations cover with pycocotools, pixel by pixel, and packed label maps with the rules of
other loaders. Ends with 1 where anything differs, with 77 where a module is missing.

  coco_oracle.py masks --program build/tests/deeplab-coco-masks [--polygons 10000] [--runs 2000] [--seed 1]
  coco_oracle.py labels --pack build/bin/deeplab-pack --coco FILE --images DIR --map FILE [--clutter SEED]

masks: random polygons (out of bounds, on halves and fifths, tiny, several of an annotation) and run lengths.
labels: packs with --overlap first and ignore, crowds drawn, and redoes the label maps by the rules of two loaders:
  first: the first annotation of a pixel has it; an image is kept with more than 1000 labelled pixels;
  ignore: a pixel of two annotations or more is 255; an image is kept whose areas add up to more than 1000.
  With --clutter the file's annotations are replaced by random ones that lie on each other.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    from pycocotools import mask as masks
except ImportError as missing:
    print("skipped:", missing)
    sys.exit(77)


def random_polygon(rng, width, height):
    """Coordinates of one polygon of 3 to 13 vertices, of one of several kinds."""
    count = int(rng.integers(3, 14))
    size = np.array([width, height])
    kind = rng.integers(0, 6)
    if kind == 0:
        points = rng.random((count, 2)) * size
    elif kind == 1:  # far out of bounds
        points = (rng.random((count, 2)) * 3 - 1) * size
    elif kind == 2:  # tiny
        points = rng.random(2) * size + rng.random((count, 2)) * 2
    elif kind == 3:  # a ring, as annotators draw
        angle = np.sort(rng.random(count)) * 2 * np.pi
        points = rng.random(2) * size + np.stack([np.cos(angle), np.sin(angle)], 1) * (rng.random(2) * size)
    elif kind == 4:  # a few coordinates that come again: upright and level edges, points that stand twice
        points = rng.choice(np.round(rng.random(4) * max(width, height)), (count, 2))
    else:
        points = np.exp(rng.random((count, 2)) * 10) * rng.choice([-1, 1], (count, 2))
    grid = rng.choice([0, 1, 2, 5, 10])
    if grid:
        points = np.round(points * grid) / grid
    return [round(float(v), int(rng.choice([1, 2, 6]))) for v in points.reshape(-1)]


def random_counts(rng, pixels):
    """Run lengths that fill `pixels`, some of them 0 and some long."""
    ends = np.sort(rng.integers(0, pixels + 1, int(rng.integers(0, 60))))
    return np.diff(np.concatenate([[0], ends, [pixels]])).astype(int).tolist()


def make_instances(rng, polygons, runs):
    images, annotations = [], []
    for i in range(polygons + runs):
        width, height = (int(v) for v in rng.integers(1, 90, 2))
        if rng.random() < 0.1:
            width, height = (int(v) for v in rng.integers(100, 700, 2))
        images.append(dict(id=i, file_name=f"{i}.jpg", width=width, height=height))
        if i < polygons:
            shape = [random_polygon(rng, width, height) for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 5)))]
        else:
            shape = dict(size=[height, width], counts=random_counts(rng, width * height))
            if i % 2:
                shape = masks.frPyObjects(shape, height, width)
                shape["counts"] = shape["counts"].decode()
        annotations.append(dict(id=i, image_id=i, category_id=1, iscrowd=0, area=0, bbox=[0, 0, 0, 0], segmentation=shape))
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name="thing")])


def expected(segmentation, height, width):
    """The mask, as pycocotools' own annToMask makes it."""
    if isinstance(segmentation, list):
        return masks.decode(masks.merge(masks.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        return masks.decode(masks.frPyObjects(segmentation, height, width))
    return masks.decode(dict(segmentation, counts=segmentation["counts"].encode()))


def compare_masks(args):
    data = make_instances(np.random.default_rng(args.seed), args.polygons, args.runs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances.json"
        file.write_text(json.dumps(data))
        out = subprocess.run([args.program, str(file)], check=True, capture_output=True, text=True).stdout
    lines = out.split("\n")[:-1]
    differ = pixels = covered = empty = 0
    for image, annotation, line in zip(data["images"], data["annotations"], lines, strict=True):
        number, counts = line.split(" ", 1)
        assert int(number) == annotation["id"]
        size = image["height"], image["width"]
        want = expected(annotation["segmentation"], *size)
        got = None if counts == "refused" else masks.decode(dict(size=list(size), counts=counts.encode()))
        pixels += want.size
        covered += int(want.sum())
        empty += not want.any()
        if got is None or not np.array_equal(want, got):
            differ += 1
            if differ <= 5:
                print("differs:", image, annotation["segmentation"])
    print(f"{args.polygons} annotations with polygons, {args.runs} with run lengths: {differ} differ; "
          f"{pixels} pixels, {covered} covered, {empty} masks empty")
    return differ


def clutter(rng, data):
    """Up to six annotations for each image, of any category and kind."""
    data["annotations"] = []
    for image in data["images"]:
        height, width = image["height"], image["width"]
        for _ in range(int(rng.integers(0, 7))):
            shape = [random_polygon(rng, width, height) for _ in range(int(rng.integers(1, 3)))]
            if rng.random() < 0.2:
                shape = dict(size=[height, width], counts=random_counts(rng, width * height))
            data["annotations"].append(dict(
                id=len(data["annotations"]) + 1, image_id=image["id"], segmentation=shape, iscrowd=int(rng.random() < 0.1),
                category_id=int(rng.choice([c["id"] for c in data["categories"]])),
                area=float(expected(shape, height, width).sum()) / 2))


def kept_labels(data, image, policy, label_of):
    """The label map of an image by the rule of another loader, or None where it leaves the image out."""
    labels = np.zeros((image["height"], image["width"]), np.uint8)
    covers = np.zeros(labels.shape, int)
    area = 0
    for annotation in data["annotations"]:
        label = label_of.get(annotation["category_id"], 0)
        if annotation["image_id"] != image["id"] or label == 0:
            continue
        shape = expected(annotation["segmentation"], *labels.shape).astype(bool)
        area += annotation["area"]
        if policy == "first":
            labels[shape & (labels == 0)] = label
        else:
            labels[shape] = np.maximum(labels[shape], label)
        covers += shape
    if policy == "ignore":
        labels[covers > 1] = 255
        return labels if area > 1000 else None
    return labels if (labels > 0).sum() > 1000 else None


def packed_labels(args, file, policy, folder):
    import h5py
    from PIL import Image
    import io

    rule = {"first": ["--min-pixels", "1000"], "ignore": ["--min-pixels", "0", "--min-area", "1000"]}[policy]
    subprocess.run([args.pack, "--coco", str(file), "--images", args.images, "--map", args.map, "--out", str(folder),
                    "--split", "all", "--overlap", policy, "--crowd", "draw", *rule], check=True, stderr=subprocess.DEVNULL)
    found = {}
    for path in sorted(Path(folder).glob("all-*.h5")):
        with h5py.File(path) as shard:
            offsets = shard["mask_offsets"][:]
            for i, record in enumerate(shard["ids"][:]):
                bytes_ = shard["masks"][offsets[i]:offsets[i + 1]].tobytes()
                found[record.decode().rstrip("\0")] = np.array(Image.open(io.BytesIO(bytes_)))
    return found


def compare_labels(args):
    data = json.loads(Path(args.coco).read_text())
    if args.clutter is not None:
        clutter(np.random.default_rng(args.clutter), data)
    differ = 0
    for policy in "first", "ignore":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "instances.json"
            file.write_text(json.dumps(data))
            found = packed_labels(args, file, policy, Path(folder) / "shards")
            manifest = json.loads((Path(folder) / "shards" / "all.json").read_text())
        names = [c["name"] for c in manifest["classes"]]
        label_of = {c["id"]: names.index(c["class"]) for c in manifest["coco"]["categories"]}
        wanted = 0
        for image in data["images"]:
            want = kept_labels(data, image, policy, label_of)
            got = found.pop(image["file_name"].rsplit(".", 1)[0], None)
            wanted += want is not None
            if (want is None) != (got is None) or want is not None and not np.array_equal(want, got):
                differ += 1
                print("differs:", policy, image)
        differ += len(found)
        print(f"{policy}: {wanted} of {len(data['images'])} images kept, {differ} label maps differ")
    return differ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_masks = commands.add_parser("masks")
    of_masks.add_argument("--program", required=True)
    of_masks.add_argument("--polygons", type=int, default=10000)
    of_masks.add_argument("--runs", type=int, default=2000)
    of_masks.add_argument("--seed", type=int, default=1)
    of_labels = commands.add_parser("labels")
    for name in "pack", "coco", "images", "map":
        of_labels.add_argument("--" + name, required=True)
    of_labels.add_argument("--clutter", type=int)
    args = parser.parse_args()
    sys.exit(1 if (compare_masks if args.command == "masks" else compare_labels)(args) else 0)


if __name__ == "__main__":
    main()
