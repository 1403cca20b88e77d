"""What a fault is: one known mistake of those who port CenterNet, as a change to a right port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import nn

from harness.cards import ModelCard
from harness.centernet.ops import DCNv2
from harness.faults.forms import Forms

FaultStage = Literal[
    "preprocess", "network", "heads", "numeric", "batch", "decode", "results", "evaluate", "perf"
]  # fmt: skip
STAGES: tuple[FaultStage, ...] = (
    "preprocess", "network", "heads", "numeric", "batch", "decode", "results", "evaluate", "perf",
)  # fmt: skip

FORM: dict[FaultStage, str] = {
    "preprocess": "prep", "network": "net", "heads": "heads", "numeric": "number", "batch": "slots",
    "decode": "decode", "results": "write", "evaluate": "score", "perf": "speed",
}  # fmt: skip
"""Which form the faults of a stage change."""

Params = tuple[float, ...]
Draw = Callable[[np.random.Generator], Params]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a port is of, on which it hangs whether a mistake can be made.

    Attributes:
        card: The contract.
        dcn: Whether the network has DCNv2 layers.
        groups: The largest number of their offset groups.
        dilation: Their largest dilation.
        batch_norm: Whether the network has batch norm.
        precision: That the port claims.
        batch_size: That it is run with.
    """

    card: ModelCard
    dcn: bool = False
    groups: int = 1
    dilation: int = 1
    batch_norm: bool = False
    precision: str = "fp32"
    batch_size: int = 1

    @classmethod
    def of(cls, card: ModelCard, module: nn.Module | None, precision: str, batch_size: int) -> Setting:
        """The setting of a network, or of an ONNX that nobody can look into (None)."""
        layers = [] if module is None else [part for part in module.modules() if isinstance(part, DCNv2)]
        groups = [layer.conv_offset_mask.out_channels // (3 * layer.weight[0, 0].numel()) for layer in layers]
        norms = module is not None and any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
        dilation = max((layer.dilation for layer in layers), default=1)
        return cls(card, bool(layers), max(groups, default=1), dilation, norms, precision, batch_size)


def nothing(random: np.random.Generator) -> Params:
    """No parameters to draw."""
    del random
    return ()


@dataclass(frozen=True, slots=True)
class Fault:
    """One known mistake.

    The same object makes a port wrong, with parameters that `draw` gives, and is the hypothesis of the diagnosis, with
    those of `guesses`, those that are estimated from what the port gave, and any that are reached from `starts`.

    Attributes:
        id: Short name, kept for ever.
        stage: Where the mistake is made.
        description: What is wrong, as a sentence without a full stop.
        seen_in: Where it was seen: recipe, tool, issue.
        change: From the parameters to the fields of the stage's form that are other than right.
        applies: Whether the mistake can be made in a setting.
        draw: Parameters for a port that makes it.
        guesses: Parameters for the diagnosis.
        starts: Parameters from which the diagnosis looks for others; none where it looks for none.
        estimate: Name of the estimate of the parameters, see `harness.faults.diagnosis.estimates`.
    """

    id: str
    stage: FaultStage
    description: str
    seen_in: str
    change: Callable[[Params], Mapping[str, object]]
    applies: Callable[[Setting], bool] = lambda setting: True
    draw: Draw = nothing
    guesses: tuple[Params, ...] = ((),)
    starts: tuple[Params, ...] = ()
    estimate: str | None = None

    def apply(self, forms: Forms, params: Params = ()) -> Forms:
        """A port that makes this mistake, too."""
        name = FORM[self.stage]
        changed = replace(getattr(forms, name), **self.change(params))
        return replace(forms, **{name: changed})

    @property
    def touched(self) -> frozenset[tuple[str, str]]:
        """What it changes: form and field. Two faults that touch the same cannot be made together."""
        params = self.draw(np.random.default_rng(0))
        return frozenset((FORM[self.stage], name) for name in self.change(params))


def compatible(faults: Sequence[Fault]) -> bool:
    """Whether these mistakes can be made in one port."""
    touched = [one for fault in faults for one in fault.touched]
    return len(touched) == len(set(touched))
