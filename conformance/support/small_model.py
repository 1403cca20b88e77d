"""Models on images of 64x96 that are exported within seconds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conformance.support.recipe import recipe_input, recipe_network, recipe_weight
from harness.cards.model import Input, ModelCard, Network, OutputHeads
from harness.centernet.networks import DETECTION_HEADS, HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.types import Float32

WIDTH = 0.25
SIDES = (64, 96)
GRID = (16, 24)
SHA256 = "0f" * 32

Changes = Mapping[str, Any]


class Tiny(HeadedNetwork):
    """A network of only the parts that export treats specially: a DCNv2 with its batch norm, and the heads."""

    def __init__(self) -> None:
        super().__init__(DETECTION_HEADS, 8, 4)
        self.stages = nn.Sequential(nn.Conv2d(3, 8, 4, 4), DCNv2(8, 8), nn.BatchNorm2d(8), nn.ReLU())

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 8, H / 4, W / 4)."""
        result: Tensor = self.stages(x)
        return result


def tiny_network() -> HeadedNetwork:
    """A network of one DCNv2 with the recipe's weights."""
    network = Tiny()
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.from_numpy(recipe_weight(name, tuple(tensor.shape))))
    return network.eval().requires_grad_(False)


def small_network(arch: str) -> HeadedNetwork:
    """Make the network at a quarter of its width, offsets and batch norm statistics far from trivial."""
    return recipe_network(arch, WIDTH)


def small_card(
    arch: str | None = "res_18", *, image: Changes | None = None, output: Changes | None = None, **changes: object
) -> ModelCard:
    """A card of COCO's 80 classes with changes to its input, its output or itself."""
    height, width = SIDES
    raw: Changes = {"height": height, "width": width, "channel_order": "BGR", "scale": 1.0, "geometry": "affine"}
    given_input = Input(**{**raw, "mean": (0.0,) * 3, "std": (1.0,) * 3, **(image or {})})
    heads = OutputHeads(**{"names": ("hm", "wh", "reg"), "hm": "logits", **(output or {})})
    network = None if arch is None else Network(arch=arch, width=WIDTH)
    fields: Changes = {"name": "small", "description": "d", "source": "s", "network": network}
    return ModelCard(**{**fields, "input": given_input, "output": heads, **changes})


def small_images(count: int) -> Float32:
    """Normalised images (count, 3, 64, 96), all different."""
    return np.concatenate([recipe_input(seed, *SIDES) for seed in range(count)])
