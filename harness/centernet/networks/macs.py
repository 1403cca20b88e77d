"""How much a network computes: what a speed is set against to tell how much of a chip it uses."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from harness.cards import ModelCard
from harness.centernet.networks import create_model
from harness.centernet.networks.heads import HeadedNetwork
from harness.centernet.ops import DCNv2


def gmacs(module: HeadedNetwork, height: int, width: int) -> float:
    """Billions of multiplications with addition in the convolutions for one image.

    Counted as they are defined: kernel area x input channels for every output value, transposed convolutions by their
    input values, deformable ones like ordinary ones with that of their offsets. Nothing is computed.

    Args:
        module: The network.
        height: Of the input in pixels.
        width: Of the input in pixels.
    """
    counted = copy.deepcopy(module).to("meta")
    total = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")  # (output channels, input channels of a group, kernel)
        values = given[0].numel() if isinstance(layer, nn.ConvTranspose2d) else output.numel()
        total += values * math.prod(weight.shape[1:])

    for layer in counted.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | DCNv2):
            layer.register_forward_hook(count)
    counted(torch.zeros(1, 3, height, width, device="meta"))
    return total / 1e9


def card_gmacs(card: ModelCard) -> float | None:
    """`gmacs` of a card's network at its input size; None where it has no network or no fixed size."""
    network = card.network
    if network is None or card.input.keep_res:
        return None
    module = create_model(network.arch, card.head_channels, network.head_conv, network.width)
    return gmacs(module, card.input.height, card.input.width)
