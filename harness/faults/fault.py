"""Faults: known mistakes of those who port CenterNet, each a change to the specification of a right port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
from torch import nn

from harness.cards import ModelCard
from harness.centernet.ops import DCNv2

if TYPE_CHECKING:
    from harness.faults.port_spec import PortSpec

FaultStage = Literal[
    "preprocess", "network", "heads", "numeric", "batch", "decode", "results", "evaluate", "speed"
]  # fmt: skip
"""Name of a stage: of its file in `harness.faults.stages` and of its field in `PortSpec`."""
STAGES: tuple[FaultStage, ...] = get_args(FaultStage)
"""Stages in the order in which a port computes them."""

Params = tuple[float, ...]
"""Parameters of a fault, named by `Fault.parameters`."""
Draw = Callable[[np.random.Generator], Params]


class StageSpec(Protocol):
    """Specification of a stage: a frozen dataclass that is right without arguments."""

    stage: ClassVar[FaultStage]
    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=StageSpec)


@dataclass(frozen=True, slots=True)
class Setting:
    """Properties of a port that decide which faults are possible in it.

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
        """Read the setting off a network; an ONNX without its network (None) counts as one without DCN."""
        layers = [] if module is None else [part for part in module.modules() if isinstance(part, DCNv2)]
        groups = [layer.conv_offset_mask.out_channels // (3 * layer.weight[0, 0].numel()) for layer in layers]
        norms = module is not None and any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
        dilation = max((layer.dilation for layer in layers), default=1)
        return cls(card, bool(layers), max(groups, default=1), dilation, norms, precision, batch_size)

    @property
    def has_reg(self) -> bool:
        """Tell whether the network has an offset head."""
        return "reg" in self.card.output.heads

    @property
    def claims_float32(self) -> bool:
        """Tell whether the port claims to compute in float32."""
        return self.precision == "fp32"


def draw_nothing(random: np.random.Generator) -> Params:
    """Draw the parameters of a fault that has none."""
    del random
    return ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fault(Generic[S]):
    """One known mistake.

    The same object makes a port wrong, with parameters that `draw` gives, and is a hypothesis of the diagnosis: with
    the parameters of `guesses`, with those estimated from the port's output, and with those fitted from `starts`.

    Attributes:
        id: Short name, kept for ever.
        spec: Class of the specification that it changes; names the stage.
        description: The mistake as a sentence without a full stop.
        seen_in: Source of the mistake: recipe, tool, issue.
        change: Specification of the stage with this mistake, from one without it and the parameters.
        applies: Whether the mistake is possible in a setting.
        parameters: Meaning of each parameter, with its unit.
        draw: Draw parameters for a port that makes the mistake.
        guesses: Parameters that the diagnosis tries first.
        starts: Parameters from which the diagnosis fits others; empty if it fits none.
        estimate: Name of the estimate of the parameters, see `harness.faults.diagnosis.estimates`.
    """

    id: str
    spec: type[S]
    description: str
    seen_in: str
    change: Callable[[S, Params], S]
    applies: Callable[[Setting], bool] = lambda setting: True
    parameters: tuple[str, ...] = ()
    draw: Draw = draw_nothing
    guesses: tuple[Params, ...] = ((),)
    starts: tuple[Params, ...] = ()
    estimate: str | None = None

    @property
    def stage(self) -> FaultStage:
        """Stage in which the mistake is made."""
        return self.spec.stage

    def apply(self, port: PortSpec, params: Params = ()) -> PortSpec:
        """Add this mistake to a port."""
        changed: Any = self.change(getattr(port, self.stage), params)
        return replace(port, **{self.stage: changed})

    @property
    def touched(self) -> frozenset[tuple[FaultStage, str]]:
        """Stage and field of each value that the mistake changes in a right port."""
        right = self.spec()
        changed = self.change(right, self.draw(np.random.default_rng(0)))
        return frozenset(
            (self.stage, one.name) for one in fields(right) if getattr(changed, one.name) != getattr(right, one.name)
        )


def compatible(faults: Sequence[Fault[Any]]) -> bool:
    """Tell whether one port can make all these mistakes: no two of them change the same field."""
    touched = [one for fault in faults for one in fault.touched]
    return len(touched) == len(set(touched))
