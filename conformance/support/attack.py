"""Ports of the tiny network that are wrong in one way each, judged in this process on two images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.support.tiny import TinySetup
from harness.cards import DeviceCard
from harness.devices.artifact import Artifact, Exported
from harness.devices.torch import TorchDevice
from harness.run import checking
from harness.run.checking import Check
from harness.run.options import CheckOptions
from harness.run.session import Session
from harness.types import Outputs

Arrays = dict[str, NDArray[Any]]
Mistake = Callable[[Arrays, int], Arrays]
"""From the right outputs of a batch and the number of batches before it to wrong ones."""
PORT = "port"
SIZES = (1, 2)


def right(outputs: Arrays, before: int) -> Arrays:
    """Make no mistake."""
    return outputs


def swapped_classes(outputs: Arrays, before: int) -> Arrays:
    """Give every class the heatmap of the next."""
    return {**outputs, "hm": np.roll(outputs["hm"], 1, axis=1)}


def larger_boxes(outputs: Arrays, before: int) -> Arrays:
    """Make boxes 2 % too large."""
    return {**outputs, "wh": outputs["wh"] * np.float32(1.02)}


def wrong_in_batches(outputs: Arrays, before: int) -> Arrays:
    """Return the samples of a batch in another order."""
    return {name: values[::-1].copy() for name, values in outputs.items()}


def stale(outputs: Arrays, before: int) -> Arrays:
    """Let the last sample of a batch be that of its first."""
    return {name: np.concatenate([values[:-1], values[:1]]) for name, values in outputs.items()}


def wrong_at_last(outputs: Arrays, before: int) -> Arrays:
    """Find nothing from the third batch on."""
    return {**outputs, "hm": outputs["hm"] - 20} if before > 1 else outputs


WRONG: tuple[Mistake, ...] = (swapped_classes, larger_boxes, wrong_in_batches, stale, wrong_at_last)


class Port:
    """The tiny network on PyTorch, with a mistake.

    Args:
        mistake: Made in every batch.
    """

    def __init__(self, mistake: Mistake) -> None:
        self.card = DeviceCard(
            name=PORT, description="a port", execution="stand-in", toolchain="none", dialect="module",
            precisions=("fp32",),
        )  # fmt: skip
        self._inner, self._mistake, self._before = TorchDevice(), mistake, 0

    def check(self) -> None:
        """It is there."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Take the network as it is."""
        return self._inner.convert(exported, batch_size, precision)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, then make the mistake."""
        found = {name: np.asarray(values) for name, values in self._inner.run(artifact, images).items()}
        self._before += 1
        return self._mistake(found, self._before - 1)

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def judged(tiny: TinySetup, folder: Path, mistake: Mistake, results: Path | None = None) -> Iterator[Check]:
    """Give the check of a port, in which nothing has run yet and no mistake will be sought a name for."""
    options = CheckOptions(
        devices=(PORT,), card=tiny.model_card, weights=tiny.weights, coco=tiny.coco, limit=2, batch_sizes=SIZES,
        results=results,
    )  # fmt: skip
    session = Session(options, folder, lambda text: None)
    session.add_device(PORT, Port(mistake))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "diagnose_device", lambda *_: [])
        yield Check(session)
