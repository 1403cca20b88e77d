"""Head of the first stage: where objects are, whatever their class, and how far their sides are away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 5
CONVOLUTIONS = 4
GROUPS = 32
LEAST_PRIOR = 0.01
"""Probability of an object with which the training begins."""


class FirstStage(NamedTuple):
    """Outputs of the head, by level.

    Attributes:
        logits: (N, 1, H, W) of each level.
        sides: (N, 4, H, W) of each level: left, top, right, bottom in units of the stride, not negative.
    """

    logits: list[Tensor]
    sides: list[Tensor]


class Scale(nn.Module):
    """A factor that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the product."""
        return x * self.scale


class CenterNetHead(nn.Module):
    """One tower for heatmap and sides, shared by the levels.

    Args:
        channels: Of the pyramid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(CONVOLUTIONS):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(GROUPS, channels), nn.ReLU()]
        self.bbox_tower = nn.Sequential(*layers)
        self.bbox_pred = nn.Conv2d(channels, 4, 3, padding=1)
        self.agn_hm = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale() for _ in range(LEVELS))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.bbox_pred.bias is not None
        assert self.agn_hm.bias is not None
        nn.init.constant_(self.bbox_pred.bias, 8.0)
        nn.init.constant_(self.agn_hm.bias, math.log(LEAST_PRIOR / (1 - LEAST_PRIOR)))

    def forward(self, features: Sequence[Tensor]) -> FirstStage:
        """Return heatmap logits and sides of P3 to P7."""
        towers = [self.bbox_tower(feature) for feature in features]
        sides = [F.relu(scale(self.bbox_pred(tower))) for scale, tower in zip(self.scales, towers, strict=True)]
        return FirstStage([self.agn_hm(tower) for tower in towers], sides)


def flat(maps: Sequence[Tensor]) -> Tensor:
    """Join maps of all levels, (N, C, H, W) each, as (rows, C): by level, then image, row and column."""
    return torch.cat([one.permute(0, 2, 3, 1).reshape(-1, one.shape[1]) for one in maps])
