"""Options of the check of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cards import DeviceCard
from harness.cards.centernet2 import load_two_stage_settings
from harness.cards.expectations import Expectation
from harness.cards.schema import is_plain_name
from harness.devices.outputs import NAME as OUTPUTS
from harness.errors import HarnessError
from harness.files import check_output
from harness.report.folder import check_report_folder
from harness.run.options import device_list, given_expectations
from harness.training.devices import PRECISIONS, require_precision, training_device, training_device_names

DEFAULT_DEVICE = "cpu"
DEFAULT_MODEL = "centernet2_narrow"
DEFAULT_PROCESSES = 2
FAMILY = "centernet2_"
BATCH = 2
"""Images of the batch that most rungs are compared on."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of the check of a training.

    Attributes:
        devices: Names, as given.
        model: Name of the model card.
        precision: Of the layers.
        weights: A checkpoint of the model; None for the weights of the golden numbers.
        processes: Most that train together.
        results: Place of the results document.
        report: Folder of the page for people.
        baseline: An earlier results document, to be no worse than.
        allow_other_weights: Whether that may be of other weights.
        expectations: Known failures that the user gives.
        outputs: Folder of dumps of a step that was run elsewhere; None where a device trains.
        workers: Number of processes of pytest that share the machine, 0 for one alone.
    """

    devices: tuple[str, ...]
    model: str = DEFAULT_MODEL
    precision: str = "fp32"
    weights: Path | None = None
    processes: int = DEFAULT_PROCESSES
    results: Path | None = None
    report: Path | None = None
    baseline: Path | None = None
    allow_other_weights: bool = False
    expectations: tuple[Expectation, ...] = ()
    outputs: Path | None = None
    workers: int = 0

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Images of a batch."""
        return (BATCH,)

    @property
    def network(self) -> str:
        """Name of the network among the two-stage settings."""
        return self.model.removeprefix(FAMILY)

    @property
    def against(self) -> None:
        """A training is held to no other."""

    @property
    def max_slowdown(self) -> None:
        """Nor is its speed."""

    def expectations_of(self, card: DeviceCard) -> tuple[Expectation, ...]:
        """Return the known failures of a device that are in force."""
        return tuple(entry for entry in self.expectations if entry.device in (None, card.name))


def parse_training_options(
    *,
    device: str | None = None,
    model: str | None = None,
    precision: str | None = None,
    weights: str | Path | None = None,
    processes: int | None = None,
    results: str | Path | None = None,
    report: str | Path | None = None,
    baseline: str | Path | None = None,
    allow_other_weights: bool = False,
    expectations: str | Path | None = None,
    outputs: str | Path | None = None,
    workers: int = 0,
    without_meaning: Mapping[str, object] | None = None,
) -> TrainingOptions:
    """Validate options as a user writes them; None stands for an option not given.

    Args:
        device: Comma-separated names.
        model: Name of a model card of the two-stage family.
        precision: Of the layers.
        weights: A checkpoint.
        processes: Most that train together.
        results: Place of the results document.
        report: Folder of the page for people.
        baseline: An earlier results document.
        allow_other_weights: Whether that may be of other weights.
        expectations: File of known failures.
        outputs: Folder of dumps.
        workers: Number of processes of pytest that share the machine.
        without_meaning: Values of options, by name, that a training does not know.

    Raises:
        HarnessError: An option has a value that makes no sense.
    """
    if results is not None:
        check_output(Path(results), "--results")
    if report is not None:
        check_report_folder(Path(report), "--report")
    for name, value in (without_meaning or {}).items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise HarnessError("it has no meaning for a training", field=option, remedy="leave it out")
    model, processes = model or DEFAULT_MODEL, DEFAULT_PROCESSES if processes is None else processes
    known = [f"{FAMILY}{network}" for network in load_two_stage_settings().network]
    if model not in known:
        cause = f"'{model}' is no model whose training can be checked"
        raise HarnessError(cause, field="--model", remedy=f"use one of {', '.join(known)}")
    if processes < 1:
        raise HarnessError(f"{processes} processes", field="--processes", remedy="give 1 or more")
    precision = precision or next(iter(PRECISIONS))
    devices = _devices(device, precision) if outputs is None else (_made_elsewhere(device, precision),)
    return TrainingOptions(
        devices=devices,
        model=model,
        precision=precision,
        weights=None if weights is None else Path(weights),
        processes=processes,
        results=None if results is None else Path(results),
        report=None if report is None else Path(report),
        baseline=None if baseline is None else Path(baseline),
        allow_other_weights=allow_other_weights,
        expectations=given_expectations(None if expectations is None else Path(expectations)),
        outputs=None if outputs is None else Path(outputs),
        workers=workers,
    )


def _devices(device: str | None, precision: str) -> tuple[str, ...]:
    devices = device_list(device or DEFAULT_DEVICE, training_device_names())
    for name in devices:
        require_precision(training_device(name), precision)
    return devices


def _made_elsewhere(device: str | None, precision: str) -> str:
    """Return the name under which dumps are reported: with that of the device that they are said to come from."""
    if precision not in PRECISIONS:
        remedy = f"use one of {', '.join(PRECISIONS)}"
        raise HarnessError(f"no training is judged in '{precision}'", field="--precision", remedy=remedy)
    if device is None:
        return OUTPUTS
    (name,) = device_list(device, training_device_names()) if "," not in device else ("",)
    if not is_plain_name(name):
        raise HarnessError(
            f"'{device}' is not the name of one device",
            field="--device",
            remedy="a folder of dumps is of one device; give its name, or leave it out",
        )
    return f"{name}:{OUTPUTS}"
