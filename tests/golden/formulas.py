"""Inputs of the fixtures as pure functions of a seed: C++ (fixture.h, reference/ops.h, math/philox.h)
and NumPy make the same bits, so that fixtures hold outputs only."""

import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def philox(key, counters):
    """Philox4x32-10 (include/deeplab/math/philox.h). counters: (N, 4) uint32; returns (N, 4)."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        shift = np.uint64(32)
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & MASK,
             (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


def uniform(bits):
    """[0, 1) with 24 bits: exact in float32."""
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(1 / 16777216)


def counters(count, *rest):
    c = np.zeros((count, 4), np.uint32)
    c[:, 0] = np.arange(count)
    for i, value in enumerate(rest):
        c[:, i + 1] = value
    return c


def random_tensor(shape, seed):
    """reference::random_tensor: float32 values in [-1, 1)."""
    count = int(np.prod(shape))
    values = np.float32(2) * uniform(philox(seed, counters(count, 7, 7, 7))[:, 0]) - np.float32(1)
    return values.reshape(shape)


def random_labels(count, classes, valid, seed=5):
    """A class where a uniform number lies below `valid`, else 255."""
    r = philox(seed, counters(count, 0, 0, 0))
    labels = (r[:, 1] % np.uint32(classes)).astype(np.uint8)
    return np.where(uniform(r[:, 0]).astype(np.float64) < valid, labels, np.uint8(255))


def dropout_keeps(seed, epoch, sample, layer, count, probability):
    """math::dropout_keeps for the elements [0, count) of a sample."""
    blocks = counters((count + 3) // 4, 16 + layer, sample, epoch)
    return uniform(philox(seed, blocks).reshape(-1)[:count]) >= np.float32(probability)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def kink_free_value(name, shape):
    """Weights with which no ReLU is near its kink: the shift of a batch norm is +4 in even and -4 in
    odd channels (the same sign along residual connections), its scale about 1/4. Of a convolution's
    weights those for channels 4j+2 are nearly minus those for channels 4j: the constant part of the
    activations cancels, which would otherwise be most of every sum and make zero padding the
    strongest signal, the same in all samples. A depthwise convolution sums no channels: there the
    filters of channels 4j+2 and 4j are nearly the same, and so are the scales behind them, so that
    the next convolution cancels what the padding does. In MobileNetV2, whose ReLU6 has a kink at 6,
    too, shifts are 3 and scales 1/8; batch norms that nothing follows there have small shifts."""
    r = random_tensor(shape, fnv1a(name.encode())).astype(np.float64)
    kind = name.rsplit(".", 1)[1]
    relu6 = name.startswith("backbone.features.")
    linear = relu6 and name.split(".")[-3] == "conv"
    scale = kind == "weight" and len(shape) == 1
    depthwise = len(shape) == 4 and shape[1] == 1
    if depthwise or scale and (relu6 or name.startswith("backbone.blocks.") or ".dw_bn." in name):
        last = shape[0] // 4 * 4
        r[2:last:4] = 0.0625 * r[2:last:4] + r[0:last:4]
    if len(shape) == 4:  # He uniform; the classifier smaller, so that its softmax is not saturated
        last = shape[1] // 4 * 4
        r[:, 2:last:4] = 0.0625 * r[:, 2:last:4] - r[:, 0:last:4]
        r *= (0.25 if name.startswith("decoder.classifier") else 1.0) * np.sqrt(6 / np.prod(shape[1:]))
    elif kind == "running_var":
        r = np.abs(r) + 0.5
    elif scale:
        r = (0.25 + 0.125 * r) * (0.5 if relu6 else 1.0)
    elif kind == "bias" and name != "decoder.classifier.bias":
        shift = 0.5 if linear else 3.0 if relu6 else 4.0
        r = np.where(np.arange(shape[0]) % 2 == 0, shift, -shift)
    return r.astype(np.float32)


def images(batch, height, width, seed):
    """Noise with an offset per sample and colour: image pooling has something to tell apart."""
    return random_tensor((batch, 3, height, width), seed) + random_tensor((batch, 3, 1, 1), seed + 1000)
