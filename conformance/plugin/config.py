"""The options, read once into one frozen `SuiteConfig`."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cards import ModelCard, load_model_card, model_card_names
from harness.cards.tolerances import load_tolerance
from harness.data.calibration import DEFAULT_IMAGES
from harness.devices.outputs import NAME
from harness.devices.registry import create_device, device_names
from harness.errors import HarnessError

DEFAULT_DEVICE = "onnxruntime"
DEFAULT_MODEL = "embedded"
OPTIONAL = ("weights", "onnx", "coco", "limit", "batch_sizes", "outputs", "results", "baseline")


@dataclass(frozen=True, slots=True)
class SuiteConfig:
    """What a run is asked to check.

    Attributes:
        devices: Names, as given.
        card: The contract of the model.
        weights: PyTorch weights; None for those of the card.
        onnx: A user's ONNX, run in place of an export.
        coco: Root of a data set in COCO's layout; None for the embedded one.
        limit: Only so many images.
        batch_sizes: Asked for, or the card's own.
        precision: Asked for.
        calibration_images: From how many images int8 takes its ranges.
        outputs: Folder of outputs that were made elsewhere; None where a device is run.
        made_by: The device that they are said to come from; None where it is not said.
        results: Where the results document goes.
        baseline: An earlier results document, to be no worse than.
        explicit: Whether anything about a device was asked for on the command line.
        workers: Number of pytest-xdist processes, 0 without.
    """

    devices: tuple[str, ...]
    card: ModelCard
    weights: Path | None
    onnx: Path | None
    coco: Path | None
    limit: int | None
    batch_sizes: tuple[int, ...]
    precision: str
    calibration_images: int
    outputs: Path | None
    made_by: str | None
    results: Path | None
    baseline: Path | None
    explicit: bool
    workers: int

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> SuiteConfig:
        """Read and check the options.

        Raises:
            HarnessError: One has a value that makes no sense.
        """
        option = config.option
        card = load_model_card(option.model)
        devices = tuple(part.strip() for part in option.device.split(",") if part.strip())
        if not devices or len(set(devices)) != len(devices):
            raise HarnessError(
                f"'{option.device}' is no list of different device names",
                field="--device",
                remedy=f"known devices: {', '.join(device_names())}",
            )
        if option.limit is not None and option.limit < 1:
            raise HarnessError(f"{option.limit} images", field="--limit", remedy="give 1 or more")
        if option.calibration_images < 1:
            raise HarnessError(
                f"{option.calibration_images} images", field="--calibration-images", remedy="give 1 or more"
            )
        precision = option.precision or _usual_precision(devices)
        load_tolerance(precision)
        if option.numprocesses and (option.markexpr or "").strip() == "perf":
            raise HarnessError(
                "processes that share the machine spoil each other's times",
                field="-m perf -n",
                remedy="leave -n out",
            )
        outputs, made_by, sizes = _path(option.outputs), None, card.batch_sizes
        if outputs is not None:
            made_by, devices, sizes = *_made_elsewhere(option, devices), (1,)
        asked = {"device": DEFAULT_DEVICE, "model": DEFAULT_MODEL} | dict.fromkeys(OPTIONAL)
        return cls(
            devices=devices,
            card=card,
            weights=_path(option.weights),
            onnx=_path(option.onnx),
            coco=_path(option.coco),
            limit=option.limit,
            batch_sizes=_batch_sizes(option.batch_sizes) if option.batch_sizes else sizes,
            precision=precision,
            calibration_images=option.calibration_images,
            outputs=outputs,
            made_by=made_by,
            results=_path(option.results),
            baseline=_path(option.baseline),
            explicit=any(getattr(option, name) != default for name, default in asked.items()),
            workers=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0") or 0) or (option.numprocesses or 0),
        )


CONFIG = pytest.StashKey[SuiteConfig]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the suite."""
    group = parser.getgroup("centernet", "CenterNet conformance")
    add = group.addoption
    add(
        "--device",
        default=DEFAULT_DEVICE,
        metavar="NAME[,NAME]",
        help=f"devices to check (known: {', '.join(device_names())}; default: %(default)s)",
    )
    add(
        "--model",
        default=DEFAULT_MODEL,
        metavar="CARD",
        help=f"model card: a .toml, or one of {', '.join(model_card_names())} (default: %(default)s)",
    )
    add("--weights", metavar="FILE", help="PyTorch weights (.pth) of the card's network")
    add("--onnx", metavar="FILE", help="an ONNX of the model, run as it is instead of an export")
    add("--coco", metavar="ROOT", help="data set: ROOT/annotations/instances_val2017.json and ROOT/val2017/")
    add("--limit", type=int, metavar="N", help="only the first N images")
    add("--batch-sizes", metavar="N[,N]", help="batch sizes to check, each with its AP (default: the card's)")
    add("--precision", metavar="NAME", help="precision to run at (default: the first on the device's card)")
    add(
        "--calibration-images",
        type=int,
        default=DEFAULT_IMAGES,
        metavar="N",
        help="images that int8 takes its ranges from, spread over the data set (default: %(default)s)",
    )
    add("--outputs", metavar="DIR", help="outputs of every image, made on another host; nothing is run")
    add("--results", metavar="FILE", help="write the results document (JSON), also when the run fails")
    add("--baseline", metavar="FILE", help="an earlier results document: fail where this run is worse")


def _usual_precision(devices: tuple[str, ...]) -> str:
    found = {name: create_device(name).card.precisions[0] for name in devices}
    if len(set(found.values())) > 1:
        raise HarnessError(
            f"these devices usually run at different precisions: {', '.join(f'{n} {p}' for n, p in found.items())}",
            field="--precision",
            remedy="say which one, or check one device after the other",
        )
    return next(iter(found.values()))


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _made_elsewhere(option: argparse.Namespace, devices: tuple[str, ...]) -> tuple[str | None, tuple[str]]:
    """Who is said to have made the outputs, and the name that they go by."""
    if len(devices) > 1 or len(_batch_sizes(option.batch_sizes or "1")) > 1:
        raise HarnessError(
            "a folder of outputs is of one device and one batch size",
            field="--outputs",
            remedy="give one --device at most, and in --batch-sizes the one that the outputs were made with",
        )
    made_by = None if option.device == DEFAULT_DEVICE else devices[0]
    return made_by, (NAME if made_by is None else f"{made_by}:{NAME}",)


def _batch_sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) if re.fullmatch(r"\s*\d+\s*", part) else 0 for part in text.split(","))
    if min(sizes) < 1 or len(set(sizes)) != len(sizes):
        raise HarnessError(
            f"'{text}' is no list of different batch sizes",
            field="--batch-sizes",
            remedy="give whole numbers from 1 up, such as 1,4,8",
        )
    return sizes
