"""A whole training step against another: losses, gradients, and the decisions on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.model import Step
from harness.checks.comparison import Comparison
from harness.checks.training.sets import Judged

TINY = 1e-12


def compare_with_golden(
    losses: Mapping[str, Tensor], gradients: Mapping[str, Tensor], golden: Mapping[str, Any]
) -> list[Comparison]:
    """Compare losses and gradients by name with the official code's.

    Args:
        losses: Of one step.
        gradients: Likewise.
        golden: ``losses`` by name, and ``gradients`` by parameter: the L2 norm first.
    """
    table = load_training_tolerances()
    found = [
        relative(name, float(losses[name].detach()), value, table.losses.relative)
        for name, value in golden["losses"].items()
    ]
    return found + [
        relative(f"gradient of {name}", float(gradients[name].norm()), figures[0], table.gradients.relative)
        for name, figures in golden["gradients"].items()
    ]


def relative(what: str, got: float, expected: float, allowed: float) -> Comparison:
    """Compare two figures, relative to the expected one."""
    measured = abs(got - expected) / max(abs(expected), TINY) if abs(expected) > TINY else abs(got)
    if measured <= allowed:
        return Comparison(what, measured, allowed, 1)
    ratio = f" (x {got / expected:.4g})" if abs(expected) > TINY else ""
    return Comparison(what, measured, allowed, 1, f"expected {expected:.7g}, got {got:.7g}{ratio}")


def gradients_differ(
    what: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], allowed: float
) -> Comparison:
    """Compare gradients that should be equal but for the order of sums: the largest difference over the largest value.

    Args:
        what: For the message.
        got: By parameter.
        expected: Likewise.
        allowed: Share of the largest value of a tensor.
    """
    worst, place = 0.0, ""
    for name, value in expected.items():
        scale = float(value.abs().max())
        off = float((got[name] - value).abs().max()) / scale if scale else float(got[name].abs().max())
        if not off <= worst:  # NaN is larger than anything
            worst, place = off, name
    problem = None if worst <= allowed else f"the gradient of {place} is off by {worst:.3g} of its largest value"
    return Comparison(what, worst, allowed, sum(value.numel() for value in expected.values()), problem)


def compare_own_steps(label: str, precision: str, got: Step, expected: Step) -> Judged:
    """Compare the losses of a step that a device ran by itself.

    In float32 each loss counts, unless a decision on the way came out otherwise, of which few may: the rung of the
    gradients then judges the losses with the reference's decisions. It does so below float32, where a step of its own
    must be finite.
    """
    table = load_training_tolerances()
    finite = {name: bool(loss.isfinite()) for name, loss in got.losses.items()}
    if not all(finite.values()):
        bad = ", ".join(name for name, well in finite.items() if not well)
        return Judged([Comparison(f"{label}: losses", float("inf"), 0, len(finite), f"NaN or infinite: {bad}")], [])
    if precision != "fp32":
        sums = [
            float(torch.stack([loss.detach().cpu() for loss in one.losses.values()]).sum()) for one in (got, expected)
        ]
        told = f"{label}: the losses with its own decisions sum up to {sums[0] / sums[1] - 1:+.2%} of the reference's"
        return Judged([Comparison(f"{label}: losses that are not finite", 0, 0, len(finite))], [told])
    differing, count = _decisions(got, expected)
    share = differing / max(1, count)
    if 0 < share <= table.decisions.differing:
        return Judged(
            [Comparison(f"{label}: boxes that it decides otherwise", share, table.decisions.differing, count)],
            [f"{label}: {differing} of {count} boxes come out otherwise in its own step"],
        )
    return Judged(
        [
            relative(f"{label}: {name}", float(got.losses[name].detach()), float(loss), table.losses.relative)
            for name, loss in expected.losses.items()
        ],
        [],
    )


def _total(step: Step) -> float:
    return sum(float(loss.detach()) for loss in step.losses.values())


def _decisions(got: Step, expected: Step) -> tuple[int, int]:
    """Count the boxes of all stages whose label differs, and all boxes; another number of boxes counts as well."""
    differing = count = 0
    for one, other in zip(got.stages, expected.stages, strict=True):
        for mine, theirs in zip(one.given, other.given, strict=True):
            labels, wanted = (torch.bincount(side.labels.cpu(), minlength=256) for side in (mine, theirs))
            differing += int((labels - wanted).abs().sum()) // 2 + abs(len(mine.labels) - len(theirs.labels))
            count += len(theirs.labels)
    return differing, count


def compare_processes(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Comparison]:
    """Compare several processes with one: losses by step, gradients of the first, change of each parameter.

    Args:
        got: Of several processes, by ``step N LOSS``, ``gradient of NAME`` and ``change of NAME``.
        expected: Of one.
    """
    table = load_training_tolerances()
    if got.keys() != expected.keys():
        odd = ", ".join(sorted(got.keys() ^ expected.keys())[:4])
        return [Comparison("several processes", float("inf"), 0, 0, f"only one side has: {odd}")]
    found = []
    for name, value in expected.items():
        if name.startswith("step 1 "):
            found.append(relative(name, float(got[name]), float(value), table.processes.losses))
        elif name.startswith("gradient"):
            found.append(difference(name, got[name], value, table.processes.gradients))
        elif name.startswith("change"):
            found.append(difference(name, got[name], value, table.parameters.relative))
    return found


def difference(what: str, got: Tensor, expected: Tensor, allowed: float) -> Comparison:
    """Compare by the norm of the difference over the norm of what is expected."""
    size, off = float(expected.double().norm()), float((got.double() - expected.double()).norm())
    measured = off / size if size > TINY else off
    problem = None if measured <= allowed else f"expected a norm of {size:.6g}, off by {off:.3g}"
    return Comparison(what, measured, allowed, expected.numel(), problem)
