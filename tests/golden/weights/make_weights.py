"""Makes the .pth files of this folder and expected.json, which says what a reader must find in them.

    python3 tests/golden/weights/make_weights.py      # needs PyTorch (1.6 or later)

types.pth, types_stream.pth   every element type and layout, as a zip and as the older stream
resnet18_torchvision.pth      torchvision's names and classifier, random values, the older stream
reference.pth                 what the training script of the reference implementation saves: its
                              names behind DataParallel, beside an optimizer and a numpy number,
                              the older stream, as PyTorch had it then
The networks are ResNet-18 with all widths divided by 32. The keys in a stream are addresses: two runs
of this script differ in them.
"""

import collections
import json
import os
import sys
import zlib

import numpy
import torch

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from deeplab_torch import DeepLabV3Plus, ResNet  # noqa: E402

DIVISOR, CLASSES = 32, 5


def types():
    """Values that every element type holds exactly."""
    whole = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) - 7
    shared = torch.arange(40, dtype=torch.float32) / 4
    return collections.OrderedDict(
        double=whole.double() / 8, float=whole / 8, half=whole.half() / 8, bfloat16=whole.bfloat16() / 8,
        long=whole.long(), int=whole.int(), short=whole.short(), char=whole.char(),
        byte=(whole + 7).byte(), bool=whole > 0, scalar=torch.tensor(2.5), counter=torch.tensor(3),
        empty=torch.zeros(0, 3), transposed=whole.permute(2, 0, 1), slice=whole[:, 1:, ::2],
        column=whole[0, :, 3], shared_begin=shared[:8], shared_end=shared[30:].reshape(2, 5),
        subnormal=torch.tensor([6e-8, -6.1e-5, 65504.0]).half(),
        parameter=torch.nn.Parameter(whole / 2), text="no tensor")


def randomised(module):
    """Random values everywhere, running statistics included; variances stay positive."""
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
        else:
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if name.endswith("var") else torch.randn(tensor.shape))
    return module


def torchvision_names():
    network = randomised(ResNet("resnet18", 16, DIVISOR, torch.nn.BatchNorm2d))
    network.fc = torch.nn.Linear(512 // DIVISOR, 10)
    return network.state_dict()


# The reference's module for each of ours (GitHub hualin95/Deeplab-v3plus, graphs/models).
REFERENCE = {
    "backbone.": "Resnet101.",
    "aspp.branch0.conv.": "encoder.ASPP._atrous_convolution1.0.",
    "aspp.branch0.bn.": "encoder.ASPP._atrous_convolution1.1.",
    "aspp.branch1.conv.": "encoder.ASPP._atrous_convolution2.0.",
    "aspp.branch1.bn.": "encoder.ASPP._atrous_convolution2.1.",
    "aspp.branch2.conv.": "encoder.ASPP._atrous_convolution3.0.",
    "aspp.branch2.bn.": "encoder.ASPP._atrous_convolution3.1.",
    "aspp.branch3.conv.": "encoder.ASPP._atrous_convolution4.0.",
    "aspp.branch3.bn.": "encoder.ASPP._atrous_convolution4.1.",
    "aspp.pool.conv.": "encoder.ASPP._image_pool.1.",
    "aspp.pool.bn.": "encoder.ASPP._image_pool.2.",
    "aspp.project.conv.": "encoder.conv1.",
    "aspp.project.bn.": "encoder.bn1.",
    "decoder.low.conv.": "decoder.conv1.",
    "decoder.low.bn.": "decoder.bn1.",
    "decoder.refine1.conv.": "decoder.conv2.",
    "decoder.refine1.bn.": "decoder.bn2.",
    "decoder.refine2.conv.": "decoder.conv3.",
    "decoder.refine2.bn.": "decoder.bn3.",
    "decoder.classifier.": "decoder.conv4.",
}


def reference_checkpoint():
    ours = randomised(DeepLabV3Plus("resnet18", 16, CLASSES, width_divisor=DIVISOR)).state_dict()
    state = collections.OrderedDict()
    for name, value in ours.items():
        prefix = next(p for p in REFERENCE if name.startswith(p))
        state["module." + REFERENCE[prefix] + name[len(prefix):]] = value
    state._metadata = ours._metadata
    # Keys were addresses then.
    momentum = {140012345678901 + i: {"momentum_buffer": torch.zeros(3)} for i in range(2)}
    groups = [{"params": list(momentum), "lr": 0.007, "nesterov": False, "weight_decay": 4e-5}]
    return {"epoch": 46, "iteration": 30000, "state_dict": state,
            "optimizer": {"state": momentum, "param_groups": groups},
            "best_MIou": numpy.float64(0.7919)}


def expected(state):
    found = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            values = value.detach().to(torch.float32).contiguous().numpy()
            found[name] = [str(value.dtype).split(".")[1], zlib.crc32(values.tobytes()), *value.shape]
    return found


def main():
    torch.manual_seed(5)
    answers = {}

    def save(name, content, stream):
        torch.save(content, os.path.join(here, name), _use_new_zipfile_serialization=not stream)
        answers[name] = expected(content.get("state_dict", content))

    save("types.pth", types(), False)
    save("types_stream.pth", types(), True)
    save("resnet18_torchvision.pth", torchvision_names(), True)
    save("reference.pth", reference_checkpoint(), True)
    with open(os.path.join(here, "expected.json"), "w") as file:
        # A line a tensor: type, CRC-32 of its values as float32, extents.
        files = []
        for name, tensors in answers.items():
            lines = [json.dumps(t) + ":" + json.dumps(v, separators=(",", ":")) for t, v in tensors.items()]
            files.append(json.dumps(name) + ":{\n" + ",\n".join(lines) + "}")
        file.write("{" + ",\n".join(files) + "}\n")


if __name__ == "__main__":
    main()
