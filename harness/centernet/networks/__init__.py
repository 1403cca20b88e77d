"""Reference networks in PyTorch, with the names of the official checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.centernet.networks.dla import CHANNELS
from harness.centernet.networks.dla_dcn import DLADCN
from harness.centernet.networks.dlav0 import DLAv0
from harness.centernet.networks.heads import HeadedNetwork
from harness.centernet.networks.resnet import LAYERS, ResNet
from harness.errors import HarnessError

ARCHITECTURES = ("dla_34", "dlav0_34", *(f"{family}_{depth}" for family in ("res", "resdcn") for depth in LAYERS))

DETECTION_HEADS = {"hm": 80, "wh": 2, "reg": 2}


def create_model(
    arch: str, heads: Mapping[str, int] = DETECTION_HEADS, head_conv: int | None = None, width: float = 1.0
) -> HeadedNetwork:
    """Create a CenterNet with random weights, in training mode.

    Args:
        arch: One of `ARCHITECTURES`.
        heads: Channels of each head by name.
        head_conv: Channels between the features and each head; 0 for none; None for the architecture's own (256 for
            DLA, 64 for ResNet, times `width`).
        width: Factor on the number of channels of every layer.

    Raises:
        HarnessError: `arch` is unknown.
    """
    if arch not in ARCHITECTURES:
        raise HarnessError(
            f"unknown architecture '{arch}'", field="arch", remedy=f"use one of {', '.join(ARCHITECTURES)}"
        )
    if head_conv is None:
        head_conv = int((256 if arch.startswith("dla") else 64) * width)
    if arch.startswith("dla"):
        channels = tuple(int(c * width) for c in CHANNELS)
        return (DLADCN if arch == "dla_34" else DLAv0)(heads, head_conv, channels)
    family, depth = re.fullmatch(r"(res|resdcn)_(\d+)", arch).groups()  # type: ignore[union-attr]
    return ResNet(heads, head_conv, int(depth), width=width, dcn=family == "resdcn")


__all__ = ["ARCHITECTURES", "DETECTION_HEADS", "HeadedNetwork", "create_model"]
