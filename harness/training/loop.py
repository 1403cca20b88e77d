"""The training loop: iterations in their order, each whole or not at all, and checkpoints to go on from.

What is trained, on what and how is a `Training`; a family of models has one each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from harness.errors import HarnessError
from harness.run.signals import held_signals
from harness.training import checkpoint

LAST = "last.pth"
"""Name of the checkpoint in the folder of a run."""


Batch = TypeVar("Batch")


class Iteration(NamedTuple):
    """Figures of one iteration.

    Attributes:
        done: Iterations that are done with it, from 1.
        losses: By name, with their sum as ``total``.
        learning_rate: That it was taken at.
        seconds: That the step took.
        data_seconds: That it waited for its images before.
    """

    done: int
    losses: dict[str, float]
    learning_rate: float
    seconds: float
    data_seconds: float


Observer = Callable[[Iteration], None]
"""Called after every iteration."""


class Training(Protocol[Batch]):
    """What a loop trains, and how."""

    def batches(self, start: int) -> Iterable[Batch]:
        """Return the batches from an iteration on, counted from 0, to the last of the run."""

    def step(self, batch: Batch, iteration: int) -> tuple[dict[str, float], float]:
        """Take the step of an iteration, counted from 0; return the losses by name and the learning rate.

        Raises:
            HarnessError: The loss is not finite.
        """

    def content(self, done: int) -> Mapping[str, object]:
        """Return all that the run needs to go on after so many iterations, as tensors and plain data."""

    def restore(self, path: Path) -> int:
        """Restore what `content` gave from a checkpoint, and return how many iterations were done.

        Raises:
            HarnessError: It cannot be read, or is of another network or other settings.
        """


def run(
    training: Training[Batch],
    folder: Path,
    *,
    save_every: int = 250,
    observers: Iterable[Observer] = (),
    saves: bool = True,
) -> Path:
    """Train, and go on from ``folder/last.pth`` where it is there.

    Args:
        training: What is trained.
        folder: Folder of the checkpoint.
        save_every: Iterations between checkpoints; a killed run loses at most this many.
        observers: Each called after every iteration.
        saves: Whether this process writes the checkpoint; of several processes one does.

    Returns:
        The checkpoint ``folder/last.pth``.

    Raises:
        HarnessError: The checkpoint cannot be read or is of another run, loss or weights are no longer finite, or the
            checkpoint cannot be written, as on a full disk; the last one stays.
    """
    make_folder(folder)
    path = folder / LAST
    done = training.restore(path) if path.exists() else 0

    def save() -> None:
        if saves:
            _save(path, training.content(done))

    try:
        ready = time.perf_counter()
        for batch in training.batches(done):
            began = time.perf_counter()
            with held_signals():  # a step that is left in its middle is neither done nor undone
                losses, rate = training.step(batch, done)
                done += 1
            ended = time.perf_counter()
            for observer in observers:
                observer(Iteration(done, losses, rate, ended - began, began - ready))
            if done % save_every == 0:
                save()
            ready = time.perf_counter()
    except KeyboardInterrupt:  # an interrupted run keeps its progress; after an error the last good checkpoint stays
        save()
        raise
    save()
    return path


def make_folder(folder: Path) -> None:
    """Make the folder of a run where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"it cannot be made: {error.strerror}", file=folder, field="--output", remedy="name another folder"
        ) from error


def diverged(what: str, remedy: str = "lower the learning rate") -> HarnessError:
    """Make the error of a training whose loss or weights are not finite."""
    return HarnessError(f"the {what} not finite: training has diverged", remedy=remedy)


def _save(path: Path, content: Mapping[str, object]) -> None:
    # A finite loss may have gradients that are not: what they made of the weights must not replace a good checkpoint.
    if not _finite(content):
        raise diverged("weights are")
    checkpoint.save(path, content)


def _finite(content: Any) -> bool:  # noqa: ANN401 - a checkpoint holds any plain data
    """Tell whether all floating-point tensors in nested plain data are finite."""
    if isinstance(content, torch.Tensor):
        return not content.is_floating_point() or bool(content.isfinite().all())
    if isinstance(content, Mapping):
        return all(map(_finite, content.values()))
    return not isinstance(content, list | tuple) or all(map(_finite, content))
