#!/usr/bin/env python3
"""Makes tests/golden/pixels/: what PIL and numpy give for the pixel operations of src/data and src/io.

usage: make_pixels.py [OUT]      (by default the folder `pixels` beside this script)

pixels.json lists the cases, pixels.bin holds their bytes; tests/data/pixels_test.cpp reads both. Sources are the pictures
that picture() and labels() below define by integer formulas; the test has the same formulas, so only results are stored,
and of large results only the CRC-32. The same version of Pillow (and of its libjpeg-turbo) gives the same files.
"""
import io
import json
import pathlib
import sys
import zlib

import numpy as np
import PIL
from PIL import Image, ImageFilter, ImageOps, features

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
M32 = 0xFFFFFFFF


# --- sources --------------------------------------------------------------------------------------------------------


def scrambled(index):
    return (index.astype(np.uint64) * 2654435761 & M32) >> 24


def picture(width, height):
    """RGB: ramps that wrap around (hard edges), and noise."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    ramps = x * 300 // width + y * 200 // height + 40 * c
    noise = scrambled((y * width + x) * 3 + c) & 31
    return Image.fromarray(((ramps + noise.astype(np.int64)) & 255).astype(np.uint8), "RGB")


def labels(width, height, classes=21):
    """Patches of classes, and lines of 255."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    patches = (x * 9 // width * 3 + y * 7 // height * 5 + (scrambled(y * width + x) >> 6)) % classes
    if classes == 21:
        patches = np.where((x + 2 * y) % 17 == 0, 255, patches)
    return Image.fromarray(patches.astype(np.uint8), "L")


# --- results --------------------------------------------------------------------------------------------------------


class Blob:
    def __init__(self):
        self.bytes = b""

    def add(self, data):
        data = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        entry = [len(self.bytes), len(data)]
        self.bytes += data
        return entry


def crc(data):
    return zlib.crc32(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes())


SIZES = [  # source, result
    ((37, 29), (37, 29)),  # identity
    ((37, 29), (74, 58)),  # twice
    ((37, 29), (53, 41)),  # a little larger
    ((37, 29), (36, 28)),  # a little smaller
    ((37, 29), (19, 11)),  # smaller, odd
    ((37, 29), (74, 11)),  # wider and lower
    ((37, 29), (5, 3)),
    ((37, 29), (1, 1)),
    ((1, 1), (7, 5)),
    ((1, 29), (20, 40)),  # sides of one pixel
    ((37, 1), (50, 16)),
    ((37, 29), (90, 1)),
    ((37, 29), (1, 70)),
    ((400, 3), (3, 90)),  # extreme ratios
    ((3, 300), (120, 2)),
    ((200, 150), (67, 50)),  # a third: taps that end exactly between pixels
    ((96, 72), (171, 129)),
]
LARGE = [((500, 375), size) for size in
         [(341, 256), (342, 257), (500, 375), (501, 376), (683, 512), (684, 513), (1000, 750), (1368, 1026), (250, 187)]]
LARGE += [((375, 500), (256, 341)), ((333, 500), (1026, 1540)), ((500, 112), (1142, 256)), ((4000, 3000), (683, 513))]
RADII = [0.01, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.999, 1.0, 1.2, 1.5, 2.0, 3.7, 8.0]


def resizing(blob):
    small = []
    for source, size in SIZES:
        small.append({"from": source, "to": size,
                      "image": blob.add(np.array(picture(*source).resize(size, Image.BILINEAR))),
                      "mask": blob.add(np.array(labels(*source).resize(size, Image.NEAREST)))})
    large = [{"from": source, "to": size, "image_crc32": crc(np.array(picture(*source).resize(size, Image.BILINEAR))),
              "mask_crc32": crc(np.array(labels(*source).resize(size, Image.NEAREST)))} for source, size in LARGE]
    return {"resize": small, "resize_large": large}


def blurring(blob):
    cases = []
    for size in [(33, 21), (2, 9), (1, 1)]:
        for radius in RADII:
            cases.append({"size": size, "radius": radius,
                          "image": blob.add(np.array(picture(*size).filter(ImageFilter.GaussianBlur(radius))))})
    large = [{"size": (513, 513), "radius": radius,
              "image_crc32": crc(np.array(picture(513, 513).filter(ImageFilter.GaussianBlur(radius))))}
             for radius in RADII]
    return {"blur": cases, "blur_large": large}


def normalised(pixels):
    """(H, W, 3) bytes to (3, H, W) floats, as torchvision's ToTensor and Normalize do."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    mean = np.array(MEAN, np.float32)[:, None, None]
    return (planes - mean) / np.array(STD, np.float32)[:, None, None]


def normalisation(blob):
    values = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    return {"normalise": {"values": blob.add(normalised(values).astype("<f4"))}}


# --- the whole pipeline ---------------------------------------------------------------------------------------------


def philox(key, counter):
    """Philox4x32-10 (Salmon et al., SC11)."""
    k0, k1 = key & M32, key >> 32
    c = list(counter)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & M32, (p0 >> 32) ^ c[3] ^ k1, p0 & M32]
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return c


def uniform(bits):
    return (bits >> 8) / 2.0**24


def below(bits, n):
    return bits * n >> 32


def sides(crop):
    """Height and width: of a square by its side, else [height, width]."""
    return (crop, crop) if isinstance(crop, int) else crop


def plan(case, width, height):
    """What the numbers of (seed, epoch, sample) decide: include/deeplab/math/augment.h."""
    epoch, sample = case["key"]
    flip, size, top, left = philox(case["seed"], (0, 0, sample, epoch))
    blur, radius, _, _ = philox(case["seed"], (1, 0, sample, epoch))
    low, high = case["range"]
    if case["resize"] == "short_edge":
        edge = low + below(size, high - low + 1)
        if width > height:  # the reference's expressions
            size = (int(1.0 * width * edge / height), edge)
        else:
            size = (edge, int(1.0 * height * edge / width))
    else:
        factor = low + case["step"] * below(size, int((high - low) / case["step"] + 0.5) + 1)
        size = (int(width * factor), int(height * factor))
    crop_height, crop_width = sides(case["crop"])
    return {"flip": uniform(flip) < case["flip"], "width": size[0], "height": size[1],
            "left": below(left, size[0] - crop_width + 1) if size[0] > crop_width else 0,
            "top": below(top, size[1] - crop_height + 1) if size[1] > crop_height else 0,
            "radius": uniform(radius) if uniform(blur) < case["blur"] else 0.0}


def augmented(case):
    """Flip, resize, pad right and below, crop, blur: PIL alone. Returns plan, image, mask."""
    width, height = case["size"]
    image, mask = picture(width, height), labels(width, height)
    p = plan(case, width, height)
    if p["flip"]:
        image, mask = image.transpose(Image.FLIP_LEFT_RIGHT), mask.transpose(Image.FLIP_LEFT_RIGHT)
    size = (p["width"], p["height"])
    image, mask = image.resize(size, Image.BILINEAR), mask.resize(size, Image.NEAREST)
    crop_height, crop_width = sides(case["crop"])
    border = (0, 0, max(0, crop_width - size[0]), max(0, crop_height - size[1]))
    image = ImageOps.expand(image, border=border, fill=tuple(case["pad_color"]))
    mask = ImageOps.expand(mask, border=border, fill=0 if case["pad_label"] == "background" else 255)
    box = (p["left"], p["top"], p["left"] + crop_width, p["top"] + crop_height)
    image, mask = image.crop(box), mask.crop(box)
    if p["radius"] > 0:
        image = image.filter(ImageFilter.GaussianBlur(radius=p["radius"]))
    return p, np.array(image), np.array(mask)


REFERENCE = {"resize": "short_edge", "step": 0, "flip": 0.5, "blur": 0.5, "pad_label": "background",
             "pad_color": [0, 0, 0]}
FACTORS = {"resize": "factor", "range": [0.5, 2.0], "step": 0.25, "flip": 0.5, "blur": 0, "pad_label": "ignore",
           "pad_color": [124, 116, 104]}


def pipeline(blob):
    cases = []
    sources = [(75, 50), (50, 75), (63, 63), (41, 90), (75, 56)]
    for sample in range(10):
        common = {"size": sources[sample % len(sources)], "crop": 49, "seed": 20 + sample // 5,
                  "key": [sample % 3, sample]}
        cases.append(common | REFERENCE | {"range": [24, 98]})
        cases.append(common | FACTORS)
        cases.append(common | REFERENCE | {"range": [24, 98], "pad_label": "ignore", "pad_color": [124, 116, 104]})
    for case in cases:
        case["plan"], image, mask = augmented(case)
        case |= {"image": blob.add(image), "mask": blob.add(mask), "valid": int((mask != 255).sum()),
                 "planes_crc32": crc(normalised(image).astype("<f4"))}
    large = []
    for sample in range(12):
        common = {"size": [(500, 375), (375, 500), (500, 333)][sample % 3], "crop": 513, "seed": 1 << 40 | 5,
                  "key": [45, 10000 + sample]}
        large.append(common | (FACTORS if sample % 4 == 3 else REFERENCE | {"range": [256, 1026]}))
    oblong = []
    for sample in range(12):
        common = {"size": sources[sample % len(sources)], "crop": [(35, 61), (61, 35), (33, 97)][sample % 3],
                  "seed": 30, "key": [sample % 2, sample]}
        oblong.append(common | (FACTORS if sample % 4 == 3 else REFERENCE | {"range": [24, 98]}))
    for case in large + oblong:
        case["plan"], image, mask = augmented(case)
        case |= {"image_crc32": crc(image), "mask_crc32": crc(mask), "valid": int((mask != 255).sum()),
                 "planes_crc32": crc(normalised(image).astype("<f4"))}
    return {"pipeline": cases, "pipeline_large": large, "pipeline_oblong": oblong}


# --- files ----------------------------------------------------------------------------------------------------------


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def palette_image(mask):
    out = Image.fromarray(np.array(mask), "P")
    out.putpalette([(37 * i + 11 * c) % 256 for i in range(256) for c in range(3)])
    return out


def decoding(blob):
    images = {}
    for name, size, options in [("420", (61, 45), {"quality": 80, "subsampling": 2}),
                                ("422", (61, 45), {"quality": 80, "subsampling": 1}),
                                ("444", (61, 45), {"quality": 80, "subsampling": 0}),
                                ("fine", (50, 34), {"quality": 98, "subsampling": 2}),
                                ("coarse", (64, 48), {"quality": 15, "subsampling": 2}),
                                ("progressive", (47, 33), {"quality": 80, "progressive": True}),
                                ("optimised", (48, 32), {"quality": 80, "optimize": True}),
                                ("narrow", (1, 40), {"quality": 80}), ("low", (40, 1), {"quality": 80}),
                                ("odd", (17, 15), {"quality": 80, "subsampling": 2})]:
        images["jpeg_" + name] = encoded(picture(*size), "JPEG", **options)
    images["jpeg_gray"] = encoded(picture(45, 31).convert("L"), "JPEG", quality=80)
    images["png_rgb"] = encoded(picture(43, 31), "PNG")
    images["png_gray"] = encoded(picture(43, 31).convert("L"), "PNG")
    images["png_gray_1"] = encoded(picture(43, 31).convert("1"), "PNG")
    images["png_palette"] = encoded(palette_image(labels(43, 31)), "PNG")
    masks = {"gray": encoded(labels(57, 43), "PNG"), "palette": encoded(palette_image(labels(57, 43)), "PNG")}
    for bits in (1, 2, 4):
        masks[f"palette_{bits}"] = encoded(palette_image(labels(57, 43, 1 << bits)), "PNG", bits=bits)
    opened = [(name, data, Image.open(io.BytesIO(data))) for name, data in images.items()]
    opened_masks = [(name, data, Image.open(io.BytesIO(data))) for name, data in masks.items()]
    return {"images": [{"name": name, "file": blob.add(data), "size": image.size,
                        "image": blob.add(np.array(image.convert("RGB")))} for name, data, image in opened],
            "masks": [{"name": name, "file": blob.add(data), "size": image.size,
                       "mask": blob.add(np.array(image).astype(np.uint8))} for name, data, image in opened_masks]}


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "pixels")
    out.mkdir(parents=True, exist_ok=True)
    blob = Blob()
    content = {"made_with": f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"}
    for part in (resizing, blurring, normalisation, pipeline, decoding):
        content |= part(blob)
    lines = []
    for name, value in content.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f' "{name}": [\n{rows}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value)}')
    (out / "pixels.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (out / "pixels.bin").write_bytes(blob.bytes)
    print(f"{out}: {len(blob.bytes)} bytes, {content['made_with']}")


if __name__ == "__main__":
    main()
