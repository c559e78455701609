"""Loads what deeplab-weights wrote into the plain module with strict=True, and saves it again as PyTorch does.

    python3 tests/golden/weights/check_export.py FILE.safetensors PREFIX

Reads the file by the format's definition, so that no library is needed but PyTorch; where the safetensors package is
installed, it must agree. Writes PREFIX.pth (zip), PREFIX_stream.pth, PREFIX_parallel.pth (DataParallel in a dict).
"""

import json
import os
import struct
import sys

import numpy
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
from deeplab_torch import DeepLabV3Plus  # noqa: E402


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32", entry
        values = numpy.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors, metadata


def main(path, prefix):
    tensors, metadata = read(path)
    model = DeepLabV3Plus(metadata["backbone"], int(metadata["output_stride"]), int(metadata["num_classes"]),
                          tuple(json.loads(metadata["dropout"])), int(metadata["width_divisor"]),
                          float(metadata["bn_eps"]), float(metadata["bn_momentum"]))
    model.load_state_dict(tensors, strict=True)
    state = model.state_dict()
    assert {n for n in state if not n.endswith("num_batches_tracked")} == set(tensors)
    for name, value in tensors.items():
        assert torch.equal(state[name], value), name
    model.eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.rand(1, 3, 33, 33))).all()
    try:
        from safetensors.torch import load_file
    except ImportError:
        print("safetensors is not installed: its reader was not asked")
    else:
        theirs = load_file(path)
        assert set(theirs) == set(tensors) and all(torch.equal(theirs[n], v) for n, v in tensors.items())
        print("safetensors reads the same")
    torch.save(state, prefix + ".pth")
    torch.save(state, prefix + "_stream.pth", _use_new_zipfile_serialization=False)
    parallel = torch.nn.DataParallel(model).state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.save({"epoch": 1, "model": parallel, "optimizer": optimizer.state_dict(), "miou": numpy.float64(0.5)},
               prefix + "_parallel.pth")
    print(f"loaded strictly: {len(tensors)} tensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
