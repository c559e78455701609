#!/usr/bin/env python3
"""Seeds that our own encoders do not make. usage: pil_seeds.py jpeg|png DIR. Exit 77: Pillow is not installed."""
import random
import sys

try:
    from PIL import Image, PngImagePlugin
except ImportError:
    print("skipped: no Pillow")
    sys.exit(77)


def picture(mode, size):
    source = random.Random(1)
    image = Image.new("RGB", size)
    image.putdata([tuple(source.randrange(256) for _ in range(3)) for _ in range(size[0] * size[1])])
    return image.convert(mode)


def jpeg(save):
    for mode in ("L", "RGB", "CMYK"):
        save(picture(mode, (19, 11)), quality=75)
        save(picture(mode, (33, 17)), quality=40, progressive=True, optimize=True)
    for subsampling in (0, 1, 2):
        save(picture("RGB", (24, 24)), subsampling=subsampling, quality=90)
    save(Image.new("RGB", (400, 300)), quality=10, progressive=True)
    save(picture("RGB", (17, 17)), quality=50, restart_marker_rows=1)
    exif = Image.Exif()
    exif[0x0112] = 8
    save(picture("L", (9, 9)), exif=exif, comment=b"text", icc_profile=b"profile")


def png(save):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I"):
        save(picture("RGB", (13, 7)).convert(mode if mode != "I" else "L").convert(mode))
    for bits in (1, 2, 4):
        save(picture("L", (13, 7)).quantize(1 << bits), bits=bits)
    save(picture("P", (9, 9)), transparency=3)
    text = PngImagePlugin.PngInfo()
    text.add_text("key", "value")
    text.add_text("long", "value" * 99, zip=True)
    text.add_itxt("other", "value", zip=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    save(picture("RGB", (5, 5)), pnginfo=text, exif=exif, dpi=(72, 72), icc_profile=b"profile")
    save(Image.new("1", (200, 100)))


def main():
    kind, folder = sys.argv[1], sys.argv[2]
    names = iter(f"{folder}/pil-{i:02}" for i in range(100))
    {"jpeg": jpeg, "png": png}[kind](lambda image, **options: image.save(next(names), kind, **options))


main()
