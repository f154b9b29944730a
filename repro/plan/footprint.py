"""What a network takes, counted from its recipe: parameters, operations, and the memory of a pre-training.

No torch: the layers of methods/parts/encoders.py are counted here as they are built there, and the tests hold the
counts to what autograd really keeps. Heads are counted by the widths in the recipe, which is exact for two layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from repro.store.job import Recipe

GB = 2**30
_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_BANKS = ("bank_size", "queue_bank_size")
# Of the estimate of a GPU's peak: what CUDA and cuDNN take for themselves, and what the allocator loses.
_CONTEXT, _LOST = 1.0 * GB, 1.1
_ON_DEVICE = 0.4  # share of the memory that the pictures may take there (repro/stages/pretrain.py)


@dataclass(frozen=True)
class Network:
    """Of one network and size of picture.

    parameters: numbers.  flops: operations of a forward pass of one picture.
    kept: bytes that such a pass keeps for the backward one.  widest: bytes of its largest tensor.
    dim: length of a feature vector.
    """

    parameters: int = 0
    flops: float = 0.0
    kept: float = 0.0
    widest: float = 0.0
    dim: int = 0


def network(table: Mapping[str, Any], size: int, precision: str) -> Network:
    """The network of table [network] on square pictures of that side; of raw pixels nothing."""
    number = 4 if precision == "fp32" else 2
    if table["arch"] == "resnet":
        return _resnet(table, size, number)
    return _vit(table, size, number) if table["arch"] == "vit" else Network()


def _resnet(table: Mapping[str, Any], size: int, number: int) -> Network:
    """Kept are the pictures, what enters each BatchNorm, and leaves each ReLU (in place: its layer's input, too)."""
    width, small, deep = table["width"], table["stem"] == "cifar", table["depth"] >= 50
    side = size if small else math.ceil(size / 2)
    parameters = flops = kept = 0.0
    widest = width * side**2

    def convolution(before: int, after: int, kernel: int, relu: bool) -> None:
        nonlocal parameters, flops, kept, widest
        weights, values = before * after * kernel**2, after * side**2
        parameters += weights + 2 * after
        flops += 2 * weights * side**2
        kept += values * (2 if relu else 1)
        widest = max(widest, values)

    kept += 3 * size**2
    convolution(3, width, 3 if small else 7, True)
    indices = 0.0
    if not small:
        side = math.ceil(side / 2)
        kept += width * side**2
        indices = 8.0 * width * side**2  # of the max-pool
    inputs = width
    for stage, blocks in enumerate(_BLOCKS.get(table["depth"], ())):
        planes = width * 2**stage
        outputs = planes * (4 if deep else 1)
        for block in range(blocks):
            shrinks = stage > 0 and block == 0
            if deep:
                convolution(inputs, planes, 1, True)
            side = math.ceil(side / 2) if shrinks else side
            convolution(planes if deep else inputs, planes, 3, True)
            convolution(planes, outputs, 1 if deep else 3, True)
            if shrinks or inputs != outputs:
                convolution(inputs, outputs, 1, False)
            inputs = outputs
    return Network(int(parameters), flops, kept * number + indices, float(widest * number), inputs)


def _vit(table: Mapping[str, Any], size: int, number: int) -> Network:
    """Kept of a block: what enters both norms (fp32), q, k, v, what attention gives, and the MLP's two wide tensors.

    Where the class token alone counts, the last block makes of all other tokens nothing but keys and values.
    """
    dim, depth, patches = table["dim"], table["depth"], (size // table["patch"]) ** 2
    tokens, patch = patches + 1, 3 * table["patch"] ** 2
    last = 1 if table["pool"] == "class" else tokens  # tokens that the last block makes
    weights = patch * dim + depth * 12 * dim**2
    biases = dim + depth * (6 * dim + (3 * dim if table["qkv_bias"] else 0))
    norms = (2 * depth + 1) * 2 * dim

    def multiplied(made: int) -> int:
        return (2 * tokens + 10 * made) * dim**2 + 2 * tokens * made * dim

    def kept(made: int) -> float:
        return dim * (4 * (tokens + made) + (3 * tokens + 11 * made) * number) + 4 * made * table["heads"]

    operations = patches * patch * dim + (depth - 1) * multiplied(tokens) + multiplied(last)
    held = (depth - 1) * kept(tokens) + kept(last) + 3 * size**2 * number + last * dim * 4
    parameters = weights + biases + norms + dim * (1 + patches)
    return Network(parameters, 2.0 * operations, held, 4.0 * tokens * dim * number, dim)


def training_flops(recipe: Recipe, size: int) -> float:
    """Operations of one pass of the network, forward and backward, for one picture: what `relative_cost` counts."""
    return 3 * network(recipe["network"], size, "fp32").flops


@dataclass(frozen=True)
class Heads:
    """parameters: of projector and predictor.  widths: numbers that one row of one view keeps there."""

    parameters: int
    widths: int


def heads(method: Mapping[str, Any], dim: int) -> Heads:
    """By the usual keys of table [method]; none where it has none of them."""
    hidden = method.get("projector_hidden") or method.get("head_hidden") or 0
    out = method.get("head_dim") or method.get("projector_dim") or 0
    if not (hidden and out):
        return Heads(0, 0)
    layers = [dim, *[hidden] * (method.get("projector_layers", 2) - 1), out]
    chains = [layers]
    if asked := method.get("predictor_hidden"):
        chains.append([out, *[asked] * (method.get("predictor_layers", 2) - 1), out])
    gaps = [pair for chain in chains for pair in pairwise(chain)]
    return Heads(sum(a * b for a, b in gaps), sum(2 * b for _, b in gaps))


def pretraining(
    recipe: Recipe, size: int, passes: float, precision: str, pictures: int = 0, memory_gb: float = math.inf
) -> float:
    """Peak GB on a GPU, estimated, of a pre-training by one process.

    passes: of the network on one picture that an update keeps for its backward pass (`kept_passes`).
    pictures: of the data set, which lie on the device where they take little of memory_gb.
    """
    net, method, pretrain = network(recipe["network"], size, precision), recipe["method"], recipe["pretrain"]
    top = heads(method, net.dim)
    number = 4 if precision == "fp32" else 2
    rows = pretrain["batch"] // pretrain["accumulate"]
    bank = sum(method.get(key, 0) for key in _BANKS)
    held = weights_and_state(recipe, net.parameters + top.parameters) + 4.0 * bank * method.get("head_dim", 0)
    views = 12.0 * size**2 * max(2.0, passes)
    saved = rows * (passes * (net.kept + top.widths * number) + views)
    scores = 4 * 4.0 * rows * (pretrain["batch"] + bank)  # of every row with every other and the bank; with softmax
    passing = 4 * rows * net.widest
    lying = 3.0 * size**2 * pictures
    lying = lying if lying < _ON_DEVICE * memory_gb * GB else 0.0
    return (_CONTEXT + _LOST * (held + saved + scores + passing + lying)) / GB


def weights_and_state(recipe: Recipe, parameters: int) -> float:
    """Bytes of weights, gradients, optimiser and a momentum network."""
    return 4.0 * parameters * (2 + (2 if recipe["pretrain"]["optimizer"] == "adamw" else 1) + 1)
