"""Known mistakes of those who port the training of CenterNet2, each a change to a right training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from harness.centernet2.labels import Truth
from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import Rung

Place = Rung | Literal["processes"]
"""Rung at which a mistake is made, or the processes' sharing of a step."""
OFFICIAL = "xingyizhou/CenterNet2 bfc8b72"
PORT = "Ascend/ModelZoo-PyTorch 6a2804a, PyTorch/contrib/cv/detection/centernet2"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingFault:
    """One known mistake.

    Attributes:
        id: Short name, kept for ever.
        rung: At which it is made: the first that is wrong when it is fed what is right.
        description: The mistake as a sentence without a full stop.
        seen_in: Source of the mistake.
        change: Makes a right port wrong, in place.
        shown_on: Batches on which it shows beyond rounding.
    """

    id: str
    rung: Place
    description: str
    seen_in: str
    change: Callable[[TrainingPort], None]
    shown_on: tuple[str, ...] = ("base",)


def override(owner: object, name: str, changed: Callable[..., Any]) -> None:
    """Replace a method of one object by a function, which is given the method that it replaces first."""
    setattr(owner, name, partial(changed, getattr(owner, name)))


def with_settings(table: str, **values: object) -> Callable[[TrainingPort], None]:
    """Return a change of some numbers of a port's model.

    Args:
        table: Of the two-stage settings.
        values: By name.
    """

    def change(port: TrainingPort) -> None:
        model = port.model
        changed = getattr(model.settings, table).model_copy(update=values)
        model.settings = model.settings.model_copy(update={table: changed})
        if table == "roi":
            model.roi_heads.settings = changed

    return change


def with_truth(changed: Callable[[Truth], Truth]) -> Callable[[TrainingPort], None]:
    """Return a change of the objects of each image."""

    def change(port: TrainingPort) -> None:
        port.changed_truth = lambda truth: [changed(own) for own in truth]

    return change


def with_solver(**values: object) -> Callable[[TrainingPort], None]:
    """Return a change of some numbers of a port's solver, also where the port is given another schedule later."""

    def change(port: TrainingPort) -> None:
        rate, make = port.learning_rate, port.make_optimizer
        port.learning_rate = lambda solver, at: rate(solver.model_copy(update=values), at)
        port.make_optimizer = lambda model, solver: make(model, solver.model_copy(update=values))

    return change
