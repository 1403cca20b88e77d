"""Numbers of CenterNet2: the network, its targets, losses and thresholds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from harness.cards.schema import FiniteRecord, parse, read_toml
from harness.errors import HarnessError

FILE = Path(__file__).with_suffix(".toml")


class TwoStageNetwork(FiniteRecord):
    """Channels of the layers."""

    stem: int = Field(gt=0, le=4096)
    bottleneck: int = Field(gt=0, le=4096)
    """Of res2; doubled by each stage."""
    features: int = Field(gt=0, le=4096)
    """That res2 gives; doubled by each stage."""
    fpn: int = Field(gt=0, le=4096, multiple_of=32)
    fc: int = Field(gt=0, le=65536)


class TwoStageInput(FiniteRecord):
    """From uint8 BGR images to a batch."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    multiple: int = Field(gt=0)


class TwoStageTargets(FiniteRecord):
    """Truth by level."""

    sizes: tuple[tuple[float, float], ...] = Field(min_length=5, max_length=5)
    least_overlap: float = Field(gt=0, lt=1)
    least_radius: float = Field(gt=0)
    least_heat: float = Field(ge=0, lt=1)


class TwoStageLoss(FiniteRecord):
    """Focal loss of the heatmap, and weights of the losses of the first stage."""

    alpha: float = Field(ge=0, le=1)
    gamma: float = Field(ge=0)
    beta: float = Field(ge=0)
    clamp: float = Field(ge=0, lt=0.5)
    ignore_above: float = Field(gt=0, le=1)
    positive: float
    negative: float
    location: float


class Proposals(FiniteRecord):
    """From heads to the boxes of the second stage."""

    least_probability: float = Field(ge=0, lt=1)
    nms: float = Field(gt=0, le=1)
    least_side: float = Field(ge=0)
    before_nms: int = Field(gt=0)
    after_nms: int = Field(gt=0)
    before_nms_test: int = Field(gt=0)
    after_nms_test: int = Field(gt=0)


class Cascade(FiniteRecord):
    """Pooling, sampling and the three stages of boxes."""

    classes: int = Field(gt=0)
    resolution: int = Field(gt=0)
    sampling_ratio: int = Field(ge=0)
    canonical_size: int = Field(gt=0)
    canonical_level: int
    append_truth: bool
    batch: int = Field(gt=0)
    foreground: float = Field(ge=0, le=1)
    overlaps: tuple[float, ...] = Field(min_length=1)
    weights: tuple[tuple[float, float, float, float], ...]
    largest_growth: float = Field(gt=1)


class TwoStageDetections(FiniteRecord):
    """From fused scores to detections."""

    score_threshold: float = Field(ge=0, lt=1)
    nms: float = Field(gt=0, le=1)
    top_k: int = Field(gt=0)


class TwoStageSettings(FiniteRecord):
    """All numbers of the model but those of its training, which are a recipe's."""

    source: str
    network: dict[str, TwoStageNetwork]
    input: TwoStageInput
    targets: TwoStageTargets
    loss: TwoStageLoss
    proposals: Proposals
    roi: Cascade
    detections: TwoStageDetections

    def network_named(self, name: str) -> TwoStageNetwork:
        """Return the channels of the network of this name.

        Raises:
            HarnessError: There is no such network.
        """
        if name not in self.network:
            known = ", ".join(f"'{one}'" for one in self.network)
            raise HarnessError(f"no CenterNet2 named '{name}'", field="name", remedy=f"use one of {known}")
        return self.network[name]


@cache
def load_two_stage_settings() -> TwoStageSettings:
    """Load the numbers that ship with the suite."""
    return parse(TwoStageSettings, read_toml(FILE), FILE)
