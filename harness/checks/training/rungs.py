"""The rungs of a training step against the reference's, each fed the same upstream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.cards.centernet2 import TwoStageSettings
from harness.cards.tolerances import Tolerance, load_tolerance
from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.cases import Case
from harness.centernet2.rungs import Rung
from harness.centernet2.targets import STRIDES
from harness.checks.comparison import Comparison
from harness.checks.training.sets import Judged, compare_matching, compare_proposals

Values = Mapping[str, Tensor]
GROUPS = (
    "backbone.bottom_up.", "backbone.fpn_", "backbone.top_block.", "proposal_generator.", "roi_heads.box_head.",
    "roi_heads.box_predictor.",
)  # fmt: skip
"""Beginnings of the names of parameters whose gradients have one direction together."""
LAYERS = ("features", "heads", "predictions")
"""Rungs that are computed in the precision of the run; all others compute in float32 in every precision."""
TINY = 1e-12
"""Below it, a reference is 0 but for rounding, and is compared in absolute terms."""


class Rounded(NamedTuple):
    """The reference as rounding leaves it, and as it is.

    Attributes:
        values: What the reference gives in the precision of the run in place of float32, or in float32 where rounding
            decides otherwise.
        right: What the reference gives in float32, from which `values` differ by what is allowed for. What a device
            gave may be compared with something else, such as the reference with a mistake.
    """

    values: Values
    right: Values


@dataclass(frozen=True)
class Basis:
    """What the comparison of a rung on one batch rests on.

    Attributes:
        label: Name of the batch.
        case: The batch.
        settings: Of the model.
        precision: Of the run.
        length: Terms of the longest sum in a layer.
        rounded: The reference, rounded; None where it is not needed.
    """

    label: str
    case: Case
    settings: TwoStageSettings
    precision: str
    length: int
    rounded: Rounded | None = None


def compare_rung(rung: Rung, basis: Basis, got: Values, expected: Values) -> Judged:
    """Compare what a rung of a device gave with what the reference's gave.

    Args:
        rung: Which.
        basis: Batch, settings, precision.
        got: Of the device.
        expected: Of the reference, in float32.
    """
    if got.keys() != expected.keys():
        odd = ", ".join(sorted(got.keys() ^ expected.keys())[:4])
        return Judged([_none(f"{basis.label}: {rung}", f"only one side has: {odd}")], [])
    broken = [_none(f"{basis.label}: {name}", "NaN or infinite") for name, value in got.items() if not _finite(value)]
    if broken:
        return Judged(broken, [])
    if rung == "proposals":
        return compare_proposals(basis.label, basis.settings, dict(got), dict(expected), len(basis.case.images))
    if rung == "matching":
        return compare_matching(basis.label, basis.settings, dict(got), dict(expected), basis.case)
    if rung == "targets":
        got, expected = _sorted_targets(got), _sorted_targets(expected)
    if rung == "gradients" and basis.precision != "fp32":
        return Judged(_half_step(basis, got, expected), [])
    names = [name for name in expected if expected[name].numel() or got[name].numel()]
    return Judged([_compare(rung, basis, name, got[name], expected[name]) for name in names], [])


def _sorted_targets(values: Values) -> Values:
    """Order what has no order: an object's cells may come in any."""
    order = values["rows"].argsort(stable=True)
    return {
        "positives": values["positives"].sort().values,
        "rows": values["rows"][order],
        "sides": values["sides"][order],
        "heatmap": values["heatmap"],
    }


def _compare(rung: Rung, basis: Basis, name: str, got: Tensor, expected: Tensor) -> Comparison:
    what, table = f"{basis.label}: {name}", load_training_tolerances()
    if got.shape != expected.shape:
        return _none(what, f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}")
    if not expected.is_floating_point():
        return _whole(what, got, expected)
    if rung in LAYERS:
        return _of_largest(what, got, expected, _layer_limit(basis, name, expected))
    if rung == "parameters":
        limit = table.learning_rates if name == "learning rates" else table.parameters
        return _norm(what, got, expected, limit.relative)
    if name.startswith(("loss", "step")):
        limit = table.later_losses if name.startswith("step") else table.losses
        return _relative(what, got, expected, limit.relative)
    if rung == "gradients" or "gradient of" in name:
        return _gradient(basis, name, got, expected, table.gradients.relative)
    share = table.exact.share
    if rung == "pooled":
        share = max(share, table.pooled.neighbours * _roundoff() * _widest(basis))
    return _of_largest(what, got, expected, share * _largest(expected))


@cache
def _float32() -> Tolerance:
    return load_tolerance("fp32")


def _roundoff() -> float:
    return float(torch.finfo(torch.float32).eps) / 2


def _widest(basis: Basis) -> int:
    """Return the cells of the longer side of P3."""
    longest = max(int(side) for image in basis.case.images for side in image.shape[1:])
    return -(-longest // STRIDES[0])


def _layer_limit(basis: Basis, name: str, expected: Tensor) -> float:
    """Return the largest difference of what a layer gives: derived in float32, measured below it."""
    derived = _float32().allowed(basis.length, _largest(expected))
    if basis.rounded is None or basis.precision == "fp32":
        return derived
    own = float((basis.rounded.values[name].double() - basis.rounded.right[name].double()).abs().max())
    return max(derived, load_training_tolerances().layers.measured * own)


def _whole(what: str, got: Tensor, expected: Tensor) -> Comparison:
    differing = int((got != expected).sum())
    problem = f"{differing} of {expected.numel()} numbers differ" if differing else None
    return Comparison(what, float(differing), 0, expected.numel(), problem)


def _of_largest(what: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    difference = (got.double() - expected.double()).abs()
    measured = float(difference.max())
    if measured <= allowed:
        return Comparison(what, measured, allowed, expected.numel())
    place = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
    share = float((difference > allowed).double().mean())
    problem = (
        f"{share:.1%} of the values are beyond; worst at {place}: expected {float(expected[place]):.6g}, "
        f"got {float(got[place]):.6g}"
    )
    return Comparison(what, measured, allowed, expected.numel(), problem)


def _relative(what: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    one, other = float(got), float(expected)
    measured = abs(one - other) / max(abs(other), TINY)
    ratio = f" (x {one / other:.4g})" if abs(other) > TINY else ""
    problem = None if measured <= allowed else f"expected {other:.7g}, got {one:.7g}{ratio}"
    return Comparison(what, measured, allowed, 1, problem)


def _norm(what: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    """Compare by the norm of the difference over the reference's; where that is 0, nothing else may be there."""
    size, off = float(expected.double().norm()), float((got.double() - expected.double()).norm())
    measured = off / size if size else math.inf if off else 0.0
    problem = None
    if measured > allowed:
        problem = f"expected a norm of {size:.6g}, got {float(got.double().norm()):.6g}"
    return Comparison(what, measured, allowed, expected.numel(), problem)


def _gradient(basis: Basis, name: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    """Compare by the norm of the difference over that of the reference's gradient.

    A value next to the kink of a ReLU falls on either side of it, by rounding: what that can make is allowed.
    """
    what, size = f"{basis.label}: {name}", float(expected.double().norm())
    if _largest(expected) <= TINY:
        return _of_largest(what, got, expected, TINY)
    if basis.rounded is not None and name in basis.rounded.values:
        right = basis.rounded.right[name].double()
        own = float((basis.rounded.values[name].double() - right).norm()) / max(float(right.norm()), TINY)
        allowed = max(allowed, load_training_tolerances().layers.measured * own)
    measured = float((got.double() - expected.double()).norm()) / size
    problem = None
    if measured > allowed:
        norm = float(got.double().norm())
        problem = (
            f"expected a norm of {size:.6g}, got {norm:.6g} (x {norm / size:.4g}), and off by {measured:.2g} of it"
        )
    return Comparison(what, measured, allowed, expected.numel(), problem)


def _half_step(basis: Basis, got: Values, expected: Values) -> list[Comparison]:
    """Compare the gradients of a step below float32 by their direction, and the sum of its losses."""
    limits: Any = load_training_tolerances().half(basis.precision)
    sums = [sum(float(v) for name, v in side.items() if name.startswith("loss")) for side in (got, expected)]
    total = torch.tensor(sums)
    found = [_relative(f"{basis.label}: sum of the losses", total[0], total[1], limits.total)]
    for group in GROUPS:
        names = [name for name in expected if name.startswith(group)]
        one, other = (torch.cat([side[name].double().flatten() for name in names]) for side in (got, expected))
        what = f"{basis.label}: gradients of {group}*, 1 - cosine"
        found.append(_direction(what, one, other, max(1 - limits.cosine, _own_turn(basis, names))))
    for name, value in expected.items():
        if name.startswith("loss"):
            continue
        if _largest(value) == 0:
            found.append(_of_largest(f"{basis.label}: {name}", got[name], value, 0.0))
        elif not got[name].any() and (basis.rounded is None or basis.rounded.values[name].any()):
            # Of a tensor of one value, the cosine of its group says nothing.
            found.append(_none(f"{basis.label}: {name}", f"0, expected a norm of {float(value.double().norm()):.6g}"))
    return found


def _own_turn(basis: Basis, names: Sequence[str]) -> float:
    """Return how far the reference's own gradients of this precision may turn: a multiple of how far they do.

    Where few rows carry a gradient, rounding turns it by more than on the batch that the limits were published for.
    """
    if basis.rounded is None or not basis.rounded.values.keys() >= set(names):
        return 0.0
    own, right = (torch.cat([side[name].double().flatten() for name in names]) for side in basis.rounded)
    if not float(right.norm()):
        return 0.0
    cosine = float(own @ right) / max(float(own.norm() * right.norm()), TINY)
    return load_training_tolerances().layers.measured * (1 - cosine)


def _direction(what: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    sizes = float(got.norm()), float(expected.norm())
    if not sizes[1]:
        return _of_largest(what, got, expected, TINY)
    cosine = float(got @ expected) / max(sizes[0] * sizes[1], TINY)
    # Errors that turn a gradient by so much lengthen or shorten it by no more than their own length.
    stretched, longest = abs(sizes[0] / sizes[1] - 1), math.sqrt(2 * allowed)
    problem = None
    if 1 - cosine > allowed or stretched > longest:
        problem = f"the cosine is {cosine:.4f}; the norm is {sizes[0]:.6g}, expected {sizes[1]:.6g}"
    # Of the two, the one that comes nearer to its limit.
    measured = max(1 - cosine, allowed * stretched / longest)
    return Comparison(what, measured, allowed, expected.numel(), problem)


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _none(what: str, problem: str) -> Comparison:
    return Comparison(what, math.inf, 0, 0, problem)
