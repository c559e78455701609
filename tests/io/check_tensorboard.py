#!/usr/bin/env python3
"""Reads the event files of a run with TensorBoard's own reader.

usage: check_tensorboard.py RUN/tensorboard [TAG...]

Exit 0: the folder loads, every scalar has strictly increasing steps, every image decodes, every TAG is there.
Exit 1: it does not; the reasons are printed. Exit 77: TensorBoard is not installed.
"""
import struct
import sys
import zlib

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as problem:
    print(f"skipped: TensorBoard cannot be imported: {problem}")
    sys.exit(77)


def png_problem(data):
    """Why `data` is no complete 8-bit RGB PNG, or None."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return "no PNG signature"
    at, pixels, width, height, depth, color = 8, b"", 0, 0, 0, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        crc = data[at + 8 + length:at + 12 + length]
        if len(crc) != 4 or struct.unpack(">I", crc)[0] != zlib.crc32(kind + body):
            return f"chunk {kind!r} is damaged"
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            pixels += body
        elif kind == b"IEND":
            if (depth, color) != (8, 2):
                return f"bit depth {depth}, colour type {color}"
            size = len(zlib.decompress(pixels))
            return None if size == height * (1 + 3 * width) else f"{size} bytes for {width} x {height} pixels"
        at += 12 + length
    return "no end"


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 1
    events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0})  # 0: keep all
    events.Reload()
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    problems = [] if scalars else ["there are no scalars"]
    problems += [f"{tag}: missing" for tag in sys.argv[2:] if tag not in scalars + images]
    for tag in scalars:
        steps = [event.step for event in events.Scalars(tag)]
        problems += [f"{tag}: step {b} follows step {a}" for a, b in zip(steps, steps[1:]) if b <= a]
        print(f"{tag}: {len(steps)} values, steps {steps[0]} to {steps[-1]}")
    for tag in images:
        for event in events.Images(tag):
            try:
                problem = png_problem(event.encoded_image_string)
            except (zlib.error, struct.error) as error:
                problem = str(error)
            if problem:
                problems.append(f"{tag}: step {event.step}: {problem}")
        print(f"{tag}: {len(events.Images(tag))} images")
    for problem in problems:
        print("problem:", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
