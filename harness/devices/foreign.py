"""Devices of other distributions, each in a process of its own: code that can neither end, skip nor green a run."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.cards import DeviceCard
from harness.cards.expectations import Expectation
from harness.devices.artifact import Artifact, CompilerEstimate, Exported, Findings, StatedSpeed, TensorSpec
from harness.devices.link import ChildProcess, UnansweredError, surroundings
from harness.errors import not_valid
from harness.types import Outputs

Facts = dict[str, Any]
CLOSING_S = 20.0
"""Seconds that a device has to close: its run is over, and nothing more can be learnt from it."""


class ForeignDevice:
    """A device of another distribution, reached in a child process; an artifact's payload is its number there.

    Args:
        name: Of the device.
        value: Its entry point, ``module:class``.
        distribution: Name of the distribution that brings it.

    Raises:
        HarnessError: It cannot be imported, is no device, or ends or skips while it is made.
    """

    def __init__(self, name: str, value: str, distribution: str) -> None:
        what = f"device '{name}' of distribution '{distribution}'"
        function = (__name__, "serve_device", [name, value])
        self._child = ChildProcess(what, {"path": surroundings(), "runner": None, "function": function})
        try:
            self.card = _card(self._child.told, value)
        except BaseException:
            self._child.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether its process is gone."""
        return self._child.ended is not None

    def check(self) -> None:
        """Raise HarnessError where the device says that it cannot run here."""
        self._child.ask("check")

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Convert in the child; the model crosses by its card and path, calibration images by their data set.

        Raises:
            HarnessError: The device cannot take the model, or its process ends.
        """
        handed = pickle.dumps((exported.card, exported.calibration))
        path = None if exported.path is None else str(exported.path.absolute())
        return _artifact(self._child.ask("convert", handed, exported.dialect, path, batch_size, precision))

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch in the child."""
        outputs: Outputs = self._child.ask("run", artifact.payload, images)
        return outputs

    def time(self, artifact: Artifact, images: NDArray[np.generic], rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs of one batch, taken in the child."""
        return [float(value) for value in self._child.ask("time", artifact.payload, images, rounds)]

    def close(self) -> None:
        """Close the device, which has `CLOSING_S` for that, and end its process."""
        if not self.closed:
            try:
                self._child.ask("close", patience_s=CLOSING_S)
            except UnansweredError as error:  # of a run that is over
                logging.getLogger("harness").warning("%s", error.cause)
            finally:
                self._child.close()


def serve_device(name: str, value: str) -> tuple[dict[str, Callable[..., Any]], Facts]:
    """Make the device in the child; return the methods that answer for it, and its card.

    Args:
        name: Of the device.
        value: Its entry point.
    """
    from harness.devices.base import time_batches
    from harness.devices.registry import make_device

    device = make_device(name, value)
    artifacts: dict[int, Artifact] = {}

    def keep(artifact: object) -> Facts:
        if not isinstance(artifact, Artifact):
            raise TypeError(f"convert returned a {type(artifact).__name__}, and not an Artifact")
        artifacts[len(artifacts)] = artifact
        return _facts(artifact, len(artifacts) - 1, keep)

    def convert(handed: bytes, dialect: str, path: str | None, batch_size: int, precision: str) -> Facts:
        card, calibration = pickle.loads(handed)  # written by the process that started this one
        exported = Exported(card, dialect, None, None if path is None else Path(path), calibration)
        return keep(device.convert(exported, batch_size, precision))

    def run(number: int, images: NDArray[Any]) -> Outputs:
        return device.run(artifacts[number], images)

    def time(number: int, images: NDArray[Any], rounds: int) -> list[float]:
        return time_batches(device, artifacts[number], images, rounds)

    def close() -> None:
        own: Callable[[], None] | None = getattr(device, "close", None)
        if own is not None:
            own()

    def check() -> None:
        device.check()

    card = device.card
    told = {
        "card": card.model_dump_json(),
        "proposals": [entry.model_dump_json() for entry in (*card.expectations, *card.proposals)],
        "file": None if card.file is None else str(card.file),
    }
    return {"check": check, "convert": convert, "run": run, "time": time, "close": close}, told


def _card(told: Facts, value: str) -> DeviceCard:
    """Read the card that the child sent; the rules for names and numbers hold for one made in code, too."""
    try:
        return _read_card(told)
    except ValidationError as error:
        remedy = "make it with load_device_card, or DeviceCard(...)"
        raise not_valid("a device card", error, file=Path(value), remedy=remedy) from error


def _read_card(told: Facts) -> DeviceCard:
    proposals = tuple(Expectation.model_validate_json(entry) for entry in told["proposals"])
    file = None if told["file"] is None else Path(told["file"])
    card = DeviceCard.model_validate_json(told["card"])
    return card.model_copy(update={"expectations": (), "proposals": proposals}).read_from(file)


def _facts(artifact: Artifact, number: int, keep: Callable[[object], Facts]) -> Facts:
    """Turn an artifact into plain data; `keep` does so for its other readings."""
    found = artifact.findings
    estimate = found.estimate
    return {
        "number": number,
        "inputs": [[spec.name, list(spec.shape), spec.dtype] for spec in artifact.inputs],
        "outputs": [[spec.name, list(spec.shape), spec.dtype] for spec in artifact.outputs],
        "batch_size": artifact.batch_size,
        "executed": artifact.executed,
        "host_operators": list(found.host_operators),
        "estimate": None if estimate is None else [estimate.latency_ms, estimate.ddr_floor_ms, estimate.note],
        "losses": found.losses,
        "stated": [[speed.fps, list(speed.batch_ms), speed.note, speed.share] for speed in found.stated],
        "readings": {reading: keep(other) for reading, other in found.readings.items()},
    }


def _artifact(facts: Mapping[str, Any]) -> Artifact:
    """Make the artifact of this process from plain data."""
    estimate = facts["estimate"]
    return Artifact(
        facts["number"],
        _specs(facts["inputs"]),
        _specs(facts["outputs"]),
        facts["batch_size"],
        {str(key): str(value) for key, value in facts["executed"].items()},
        Findings(
            tuple(map(str, facts["host_operators"])),
            None if estimate is None else CompilerEstimate(*estimate),
            {str(tensor): float(loss) for tensor, loss in facts["losses"].items()},
            tuple(StatedSpeed(fps, tuple(batch_ms), note, share) for fps, batch_ms, note, share in facts["stated"]),
            {reading: _artifact(other) for reading, other in facts["readings"].items()},
        ),
    )


def _specs(rows: list[Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(str(name), tuple(shape), str(dtype)) for name, shape, dtype in rows)
