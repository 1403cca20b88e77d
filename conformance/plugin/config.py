"""Declares the options of the suite, and converts them once into `CheckOptions`."""

import os

import pytest

from harness.cards import model_card_names
from harness.data.calibration import DEFAULT_IMAGES
from harness.devices.registry import device_names
from harness.errors import HarnessError
from harness.run.options import DEFAULT_DEVICE, DEFAULT_MODEL, CheckOptions, parse_options

OPTIONAL = ("weights", "onnx", "coco", "limit", "batch_sizes", "outputs", "results", "baseline", "expectations")

CONFIG = pytest.StashKey[CheckOptions]()


def options_of(config: pytest.Config) -> CheckOptions:
    """Read and check the options.

    Raises:
        HarnessError: One has a value that makes no sense.
    """
    option = config.option
    if option.numprocesses and (option.markexpr or "").strip() == "perf":
        cause = "processes that share the machine spoil each other's times"
        raise HarnessError(cause, field="-m perf -n", remedy="leave -n out")
    return parse_options(
        device=option.device,
        model=option.model,
        precision=option.precision,
        calibration_images=option.calibration_images,
        allow_other_weights=option.allow_other_weights,
        workers=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0") or 0) or (option.numprocesses or 0),
        **{name: getattr(option, name) for name in OPTIONAL},
    )


def asks_for_a_device(config: pytest.Config) -> bool:
    """Tell whether anything about a device was asked for on the command line."""
    asked = {"device": DEFAULT_DEVICE, "model": DEFAULT_MODEL} | dict.fromkeys(OPTIONAL)
    return any(getattr(config.option, name) != default for name, default in asked.items())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the suite."""
    add = parser.getgroup("centernet", "CenterNet conformance").addoption
    devices, models = ", ".join(device_names()), ", ".join(model_card_names())
    text = f"devices to check (known: {devices}; default: %(default)s)"
    add("--device", default=DEFAULT_DEVICE, metavar="NAME[,NAME]", help=text)
    text = f"model card: a .toml, or one of {models} (default: %(default)s)"
    add("--model", default=DEFAULT_MODEL, metavar="CARD", help=text)
    add("--weights", metavar="FILE", help="PyTorch weights (.pth) of the card's network")
    add("--onnx", metavar="FILE", help="an ONNX of the model, run as it is instead of an export")
    add("--coco", metavar="ROOT", help="data set: ROOT/annotations/instances_val2017.json and ROOT/val2017/")
    add("--limit", type=int, metavar="N", help="only the first N images")
    add("--batch-sizes", metavar="N[,N]", help="batch sizes to check, each with its AP (default: the card's)")
    add("--precision", metavar="NAME", help="precision to run at (default: the first on the device's card)")
    text = "images that int8 takes its ranges from, spread over the data set (default: %(default)s)"
    add("--calibration-images", type=int, default=DEFAULT_IMAGES, metavar="N", help=text)
    add("--outputs", metavar="DIR", help="outputs of every image, made on another host; nothing is run")
    add("--results", metavar="FILE", help="write the results document (JSON), also when the run fails")
    add("--baseline", metavar="FILE", help="an earlier results document: fail where this run is worse")
    add("--allow-other-weights", action="store_true", help="hold a new training to the baseline of an older one")
    add("--expectations", metavar="FILE", help="known failures (TOML): each must fail as it says, and excuses no more")
