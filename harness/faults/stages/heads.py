"""Outputs of a port: their names, order, units and layout, and the known mistakes in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.faults.fault import Fault, FaultStage
from harness.faults.stages.numeric import Arrays, NumericSpec, activate, degrade


@dataclass(frozen=True, slots=True)
class HeadsSpec:
    """Specification of the names, order, units and layout of a port's outputs.

    Attributes:
        sigmoid: Applied to hm once more (1), or left out where the card says probability (-1).
        swapped: wh is read as reg and reg as wh.
        wh_xy: Width and height are exchanged (of ``ltrb``: left and top, right and bottom).
        reg_xy: The offsets x and y are exchanged.
        wh_factor: Unit of wh over the card's.
        reversed: The outputs come in the other order.
        interleaved: The buffers hold (y, x, channel) where (channel, y, x) is read.
        transposed: Rows are read as columns.
    """

    stage: ClassVar[FaultStage] = "heads"

    sigmoid: int = 0
    swapped: bool = False
    wh_xy: bool = False
    reg_xy: bool = False
    wh_factor: float = 1.0
    reversed: bool = False
    interleaved: bool = False
    transposed: bool = False


RIGHT = (HeadsSpec(), NumericSpec())


def spoil(card: ModelCard, spec: HeadsSpec, numeric: NumericSpec, heads: Mapping[str, NDArray[Any]]) -> Arrays:
    """Turn the right heads of a batch into those that a port gives.

    Args:
        card: The contract that the port should keep.
        spec: How it tells its outputs apart.
        numeric: How it computes with their numbers.
        heads: (N, channels, h, w) by name, right, hm as logits. Not changed.
    """
    if (spec, numeric) == RIGHT and card.output.hm == "logits":
        return dict(heads)
    found = {name: np.asarray(values) for name, values in heads.items()}
    found["hm"] = activate(numeric, found["hm"], spec.sigmoid + (card.output.hm == "probability"))
    found["wh"] = found["wh"] * np.asarray(spec.wh_factor, found["wh"].dtype)
    if spec.wh_xy:
        pairs = found["wh"].reshape(len(found["wh"]), -1, 2, *found["wh"].shape[2:])
        found["wh"] = pairs[:, :, ::-1].reshape(found["wh"].shape)
    if spec.reg_xy and "reg" in found:
        found["reg"] = found["reg"][:, ::-1]
    if spec.swapped and "reg" in found:
        found["wh"], found["reg"] = found["reg"], found["wh"]
    if spec.reversed:
        found = dict(zip(found, list(found.values())[::-1], strict=True))
    if spec.interleaved:
        found = {name: _interleaved(values) for name, values in found.items()}
    if spec.transposed:
        found = {name: _transposed(values) for name, values in found.items()}
    return {name: np.ascontiguousarray(values) for name, values in degrade(numeric, found).items()}


def _interleaved(values: NDArray[Any]) -> NDArray[Any]:
    """Read the bytes of (N, h, w, channels) as (N, channels, h, w)."""
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).reshape(values.shape)


def _transposed(values: NDArray[Any]) -> NDArray[Any]:
    """Read the bytes of (N, channels, w, h) as (N, channels, h, w)."""
    return np.ascontiguousarray(values.transpose(0, 1, 3, 2)).reshape(values.shape)


HEADS_FAULTS: tuple[Fault[HeadsSpec], ...] = (
    Fault(
        id="hm-sigmoid-missing",
        spec=HeadsSpec,
        description="hm comes without the sigmoid that the card promises",
        seen_in="Ascend ModelZoo's export ends in logits, and its post-processing applies the sigmoid",
        change=lambda spec, p: replace(spec, sigmoid=-1),
        applies=lambda s: s.card.output.hm == "probability",
    ),
    Fault(
        id="hm-sigmoid-twice",
        spec=HeadsSpec,
        description="hm goes through one sigmoid too many",
        seen_in="a sigmoid in the graph and one on the host: the ranking stays, scores lie in 0.5..0.73",
        change=lambda spec, p: replace(spec, sigmoid=1),
    ),
    Fault(
        id="wh-reg-swapped",
        spec=HeadsSpec,
        description="wh and reg are exchanged",
        seen_in="Ascend ModelZoo built-in CenterNet: forward gives hm, reg, wh and output_names say hm, wh, reg",
        change=lambda spec, p: replace(spec, swapped=True),
        applies=lambda s: s.has_reg and s.card.output.box == "wh+reg",
    ),
    Fault(
        id="wh-axes-swapped",
        spec=HeadsSpec,
        description="width and height are exchanged",
        seen_in="ports that give boxes as (y, x), as TensorFlow does",
        change=lambda spec, p: replace(spec, wh_xy=True),
    ),
    Fault(
        id="reg-axes-swapped",
        spec=HeadsSpec,
        description="the x and y of reg are exchanged",
        seen_in="ports that give points as (y, x), as TensorFlow does",
        change=lambda spec, p: replace(spec, reg_xy=True),
        applies=lambda s: s.has_reg,
    ),
    Fault(
        id="wh-unit",
        spec=HeadsSpec,
        description="wh is in another unit, pixels of the input for cells of the grid or the other way round",
        seen_in="mb3_centernet has pixels where the official models have cells",
        change=lambda spec, p: replace(spec, wh_factor=p[0]),
        parameters=("unit of wh over the card's",),
        draw=lambda r: (float(r.choice([0.25, 4.0])),),
        guesses=((4.0,), (0.25,)),
        estimate="wh_factor",
    ),
    Fault(
        id="outputs-reversed",
        spec=HeadsSpec,
        description="the outputs are taken in the reverse order",
        seen_in="Ascend ModelZoo built-in CenterNet: without --out_nodes the om has its outputs the other way round",
        change=lambda spec, p: replace(spec, reversed=True),
    ),
    Fault(
        id="heads-layout",
        spec=HeadsSpec,
        description="NHWC outputs are read as NCHW",
        seen_in="runtimes that keep their own layout at the outputs",
        change=lambda spec, p: replace(spec, interleaved=True),
    ),
    Fault(
        id="heads-transposed",
        spec=HeadsSpec,
        description="rows and columns of the heads are exchanged",
        seen_in="column-major readers of raw dumps",
        change=lambda spec, p: replace(spec, transposed=True),
    ),
)
