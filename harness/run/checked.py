"""What the document and the gate of a run need to know of it: of a check of devices that infer, or that train."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.cards import AnyCard, DeviceCard
from harness.cards.expectations import Expectation
from harness.report.records import Data


class RunOptions(Protocol):
    """Options of a run."""

    @property
    def model(self) -> str:
        """Name of the model card."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices, as given."""

    @property
    def precision(self) -> str:
        """Precision of the run."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of the run."""

    @property
    def results(self) -> Path | None:
        """Place of the results document."""

    @property
    def report(self) -> Path | None:
        """Folder of the page for people."""

    @property
    def baseline(self) -> Path | None:
        """An earlier document, to be no worse than."""

    @property
    def allow_other_weights(self) -> bool:
        """Whether that may be of another training."""

    @property
    def against(self) -> str | None:
        """An older model or a second device, to be no slower than."""

    @property
    def max_slowdown(self) -> float | None:
        """Fraction by which a time may exceed an earlier one; None where the user says nothing."""

    @property
    def workers(self) -> int:
        """Number of processes that share the machine, 0 for one alone."""

    def expectations_of(self, card: DeviceCard) -> tuple[Expectation, ...]:
        """Return the known failures of a device that are in force."""


class Hashes(Protocol):
    """Content hashes of a model."""

    @property
    def weights_sha256(self) -> str | None:
        """Of the PyTorch weights; None where there are none."""

    @property
    def onnx_sha256(self) -> str | None:
        """Of the user's ONNX; None where none was given."""


class Carded(Protocol):
    """A device."""

    @property
    def card(self) -> DeviceCard:
        """Its contract."""


class Checked(Protocol):
    """Model, data and devices of a run."""

    @property
    def options(self) -> RunOptions:
        """As the user gave them."""

    @property
    def data(self) -> Data:
        """The images, for the report."""

    @property
    def model_card(self) -> AnyCard | None:
        """The contract of a model that infers; None of one that trains."""

    @property
    def subject(self) -> Hashes:
        """The model."""

    def device(self, name: str) -> Carded:
        """Return a device by name."""

    def check_devices(self) -> None:
        """Raise HarnessError where a device is not known or cannot be made."""

    def check(self) -> None:
        """Raise HarnessError where something that was asked for is missing or wrong."""

    def close(self) -> None:
        """Release everything that the devices hold."""
