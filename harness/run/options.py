"""Options of a check, read and validated once for pytest, the command line and notebooks."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cards import AnyCard, DeviceCard, load_card
from harness.cards.expectations import Expectation, read_expectations, require_soon
from harness.cards.model import LARGEST_BATCH
from harness.cards.tolerances import load_tolerance
from harness.data.calibration import DEFAULT_IMAGES
from harness.devices.memory import require_batch_memory
from harness.devices.outputs import NAME
from harness.devices.registry import create_device, device_names
from harness.errors import HarnessError
from harness.files import check_output
from harness.report.folder import check_report_folder
from harness.run.shard import Shard, parse_shard

DEFAULT_DEVICE = "onnxruntime"
DEFAULT_MODEL = "embedded"
MAX_SLOWDOWN = 0.05
"""Fraction by which the time may exceed that of `against` where the user says nothing."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Options of a check.

    Attributes:
        devices: Names, as given.
        card: The contract of the model.
        weights: PyTorch weights; None for those of the card.
        onnx: A user's ONNX, run in place of an export.
        coco: Root of a data set in COCO's layout; None for the embedded one.
        limit: Number of images that are used; None for all.
        batch_sizes: Asked for, or the card's own.
        precision: Asked for, or the first on the devices' cards.
        calibration_images: Number of images from which int8 takes its ranges.
        outputs: Folder of outputs that were made elsewhere; None where a device is run.
        made_by: Device that the outputs are said to come from; None where it is not said.
        results: Place of the results document.
        report: Folder of the page for people.
        baseline: An earlier results document, to be no worse than.
        allow_other_weights: Whether that may be of another training.
        against: An older model, or a second device, to be no slower than: a file, or the name of a device.
        max_slowdown: Fraction by which the time may exceed that of `against` or the baseline; None for the usual.
        expectations: Known failures that the user gives.
        reuse: Whether outputs of the devices that earlier runs stored are taken.
        fresh: Whether nothing that is stored is taken.
        shard: The part of the images that is run; None for all.
        workers: Number of processes that share the machine, 0 for one alone: then times are worth recording.
    """

    devices: tuple[str, ...]
    card: AnyCard
    weights: Path | None = None
    onnx: Path | None = None
    coco: Path | None = None
    limit: int | None = None
    batch_sizes: tuple[int, ...] = (1,)
    precision: str = "fp32"
    calibration_images: int = DEFAULT_IMAGES
    outputs: Path | None = None
    made_by: str | None = None
    results: Path | None = None
    report: Path | None = None
    baseline: Path | None = None
    allow_other_weights: bool = False
    against: str | None = None
    max_slowdown: float | None = None
    expectations: tuple[Expectation, ...] = ()
    reuse: bool = False
    fresh: bool = False
    shard: Shard | None = None
    workers: int = 0

    @property
    def model(self) -> str:
        """Name of the model card."""
        return self.card.name

    @property
    def slowdown_allowed(self) -> float:
        """Fraction by which the time may exceed that of `against`."""
        return MAX_SLOWDOWN if self.max_slowdown is None else self.max_slowdown

    def expectations_of(self, card: DeviceCard) -> tuple[Expectation, ...]:
        """The known failures of a device that are in force: those that the user gives, then this project's own."""
        return (*(entry for entry in self.expectations if entry.device in (None, card.name)), *card.expectations)


def parse_options(
    *,
    device: str | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    onnx: str | Path | None = None,
    coco: str | Path | None = None,
    limit: int | None = None,
    batch_sizes: str | None = None,
    precision: str | None = None,
    calibration_images: int | None = None,
    outputs: str | Path | None = None,
    results: str | Path | None = None,
    report: str | Path | None = None,
    baseline: str | Path | None = None,
    allow_other_weights: bool = False,
    against: str | None = None,
    max_slowdown: str | None = None,
    expectations: str | Path | None = None,
    reuse: bool = False,
    fresh: bool = False,
    shard: str | None = None,
    workers: int = 0,
) -> CheckOptions:
    """Validate options as a user writes them: lists are comma-separated text, None stands for an option not given.

    Raises:
        HarnessError: An option has a value that makes no sense.
    """
    if results is not None:
        check_output(Path(results), "--results")
    if report is not None:
        check_report_folder(Path(report), "--report")
    card, devices = load_card(model or DEFAULT_MODEL), device_list(device or DEFAULT_DEVICE, device_names())
    for field, count in (("--limit", limit), ("--calibration-images", calibration_images)):
        if count is not None and count < 1:
            raise HarnessError(f"{count} images", field=field, remedy="give 1 or more")
    precision = _usual_precision(devices) if precision is None else precision
    load_tolerance(precision)
    if reuse and fresh:
        cause = "--fresh ignores what is stored, and --reuse takes it"
        raise HarnessError(cause, field="--fresh --reuse", remedy="give one of them")
    sizes = card.batch_sizes if batch_sizes is None else _size_list(batch_sizes)
    require_batch_memory(card, max(sizes))
    made_by = None
    if outputs is not None:
        sizes = (1,) if batch_sizes is None else sizes
        made_by, devices = _made_elsewhere(device or DEFAULT_DEVICE, devices, sizes)
    allowed = None if max_slowdown is None else _slowdown(max_slowdown, gated=bool(against or baseline))
    if against is not None:
        _check_against(against, devices, outputs, workers)
    part = None if shard is None else _shard(shard, results=results, baseline=baseline, against=against)
    return CheckOptions(
        devices=devices,
        card=card,
        weights=_path(weights),
        onnx=_path(onnx),
        coco=_path(coco),
        limit=limit,
        batch_sizes=sizes,
        precision=precision,
        calibration_images=DEFAULT_IMAGES if calibration_images is None else calibration_images,
        outputs=_path(outputs),
        made_by=made_by,
        results=_path(results),
        report=_path(report),
        baseline=_path(baseline),
        allow_other_weights=allow_other_weights,
        against=against,
        max_slowdown=allowed,
        expectations=given_expectations(_path(expectations)),
        reuse=reuse,
        fresh=fresh,
        shard=part,
        workers=workers,
    )


def device_list(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read a list of different names of devices.

    Args:
        text: Comma-separated.
        known: Names for the remedy.
    """
    devices = tuple(part.strip() for part in text.split(",") if part.strip())
    if not devices or len(set(devices)) != len(devices):
        raise HarnessError(
            f"'{text}' is no list of different device names",
            field="--device",
            remedy=f"known devices: {', '.join(known)}",
        )
    return devices


def _usual_precision(devices: tuple[str, ...]) -> str:
    found = {name: create_device(name).card.precisions[0] for name in devices}
    if len(set(found.values())) > 1:
        raise HarnessError(
            f"these devices usually run at different precisions: {', '.join(f'{n} {p}' for n, p in found.items())}",
            field="--precision",
            remedy="say which one, or check one device after the other",
        )
    return next(iter(found.values()))


def _size_list(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) if re.fullmatch(r"\s*\d{1,9}\s*", part) else 0 for part in text.split(","))
    if min(sizes) < 1 or max(sizes) > LARGEST_BATCH or len(set(sizes)) != len(sizes):
        raise HarnessError(
            f"'{text}' is no list of different batch sizes",
            field="--batch-sizes",
            remedy=f"give whole numbers from 1 up, such as 1,4,8, and at most {LARGEST_BATCH}",
        )
    return sizes


def _slowdown(text: str, *, gated: bool) -> float:
    """Read a share of time such as ``5%``."""
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*", text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise HarnessError(
            f"'{text}' is no share of the time", field="--max-slowdown", remedy="give percent, such as 5%, up to 100%"
        )
    if not gated:
        raise HarnessError(
            "a limit, and nothing that it is a limit to",
            field="--max-slowdown",
            remedy="add --against OLD, or --baseline FILE",
        )
    return float(found[1]) / 100


def _shard(text: str, *, results: object, baseline: object, against: object) -> Shard:
    shard = parse_shard(text)
    if results is None:
        cause, remedy = "a part that is not written cannot be merged", "add --results FILE"
        raise HarnessError(cause, field="--shard", remedy=remedy)
    if baseline is not None:
        cause, remedy = "a part is not held to a baseline", "give --baseline to 'python -m harness merge'"
        raise HarnessError(cause, field="--shard --baseline", remedy=remedy)
    if against is not None:
        cause, remedy = "a part has no speed: those of a run are measured in one piece", "run --against without --shard"
        raise HarnessError(cause, field="--shard --against", remedy=remedy)
    return shard


def _check_against(against: str, devices: tuple[str, ...], outputs: object, workers: int) -> None:
    if outputs is not None:
        cause, remedy = "outputs that were made elsewhere are not run, and have no time", "leave --outputs out"
    elif workers:
        cause, remedy = "processes that share the machine spoil each other's times", "leave -n out"
    elif devices == (against,):
        cause, remedy = f"device '{against}' is held to itself", "name an ONNX, weights, or another device"
    else:
        return
    raise HarnessError(cause, field="--against", remedy=remedy)


def _made_elsewhere(given: str, devices: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The device that the outputs are said to come from, and the name under which they are reported."""
    if len(devices) > 1 or len(sizes) > 1:
        raise HarnessError(
            "a folder of outputs is of one device and one batch size",
            field="--outputs",
            remedy="give one --device at most, and in --batch-sizes the one that the outputs were made with",
        )
    made_by = None if given == DEFAULT_DEVICE else devices[0]
    return made_by, (NAME if made_by is None else f"{made_by}:{NAME}",)


def given_expectations(file: Path | None) -> tuple[Expectation, ...]:
    """Read the known failures that the user gives."""
    return () if file is None else require_soon(read_expectations(file), datetime.date.today())


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)
