"""Number of multiplications of a network, from which the utilisation of a chip follows."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from harness.cards import AnyCard, TwoStageCard
from harness.centernet.networks import create_model
from harness.centernet.networks.heads import HeadedNetwork
from harness.centernet.ops import DCNv2


def gmacs(module: HeadedNetwork, height: int, width: int) -> float:
    """Count the multiply-accumulate operations of the convolutions for one image, in billions.

    A convolution counts kernel area x input channels for every output value, a transposed one for every input value.
    A deformable one counts like an ordinary one, and the convolution of its offsets counts too. Nothing is computed.

    Args:
        module: The network.
        height: Height of the input in pixels.
        width: Width of the input in pixels.
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


def card_gmacs(card: AnyCard) -> float | None:
    """Return `gmacs` of a card's network at its input size; None if it has no network, no fixed size, or two stages."""
    if isinstance(card, TwoStageCard):
        return None
    network = card.network
    if network is None or card.input.keep_res:
        return None
    module = create_model(network.arch, card.head_channels, network.head_conv, network.width)
    return gmacs(module, card.input.height, card.input.width)
