"""Weights and inputs of the golden numbers, pure functions of a name or a seed.

A network whose state dict has the official names and shapes gets the same weights to the bit, so no weight file is
needed. Offsets and masks of DCNv2 are far from zero: at zero every mistake of their layout stays hidden.
"""

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from harness.centernet.networks import HeadedNetwork, create_model
from harness.types import Float32


def recipe_weight(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Make the entry `name` of a state dict, float32 but for the int64 counters; seeded by the CRC-32 of the name."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        return random.uniform(0.8, 1.2, shape).astype(np.float32)
    if "conv_offset_mask" in name:
        deviation = 1.5 if kind == "bias" else 0.02
    else:
        deviation = 0.1 if len(shape) == 1 else (1.6 / math.prod(shape[1:])) ** 0.5
    return (random.standard_normal(shape) * deviation).astype(np.float32)


def recipe_input(seed: int = 7, height: int = 256, width: int = 384) -> Float32:
    """Make a normalised network input, (1, 3, height, width)."""
    random = np.random.Generator(np.random.PCG64(seed))
    return random.standard_normal((1, 3, height, width)).astype(np.float32)


def recipe_network(arch: str, width: float = 1.0) -> HeadedNetwork:
    """Make the network with these weights, in evaluation mode."""
    model = create_model(arch, width=width)
    state = {name: torch.from_numpy(recipe_weight(name, tuple(t.shape))) for name, t in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
