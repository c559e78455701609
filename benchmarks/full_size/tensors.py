"""Files that full_size.py and our side exchange."""

import json

import h5py
import numpy as np
import torch


def write_safetensors(path, values):
    header, at = {}, 0
    for name, value in values.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + 4 * value.size]}
        at += 4 * value.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for value in values.values():
            f.write(np.ascontiguousarray(value, "<f4").tobytes())


def read_safetensors(path):
    """Those of float32: ours, and what write_safetensors wrote."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: torch.from_numpy(np.frombuffer(data[slice(*t["data_offsets"])], "<f4").reshape(t["shape"]).copy())
            for name, t in header.items()}


def load_batch(path, step, dtype):
    with h5py.File(path, "r") as f:
        images, labels = f[f"images/{step:04}"][()], f[f"labels/{step:04}"][()][:, 0]
    return torch.from_numpy(images).to(dtype), torch.from_numpy(labels)
