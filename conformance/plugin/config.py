"""Declares the options of the suite, and converts them once into `CheckOptions`."""

import os
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from harness.cards import model_card_names
from harness.data.calibration import DEFAULT_IMAGES
from harness.devices.registry import device_names
from harness.errors import HarnessError
from harness.run.options import DEFAULT_DEVICE, DEFAULT_MODEL, CheckOptions, parse_options
from harness.run.options_file import OPPOSITES, stated_options
from harness.run.training.options import DEFAULT_MODEL as TRAINED_MODEL
from harness.run.training.options import DEFAULT_PROCESSES, TrainingOptions, parse_training_options
from harness.training.devices import training_device_names

OTHERS = ("accuracy", "perf")
"""Markers of the tests of devices that infer."""
OPTIONAL = (
    "weights",
    "onnx",
    "coco",
    "limit",
    "batch_sizes",
    "outputs",
    "results",
    "report",
    "baseline",
    "against",
    "max_slowdown",
    "expectations",
    "shard",
)

INFERENCE_ONLY = (
    "onnx", "coco", "limit", "batch_sizes", "calibration_images", "against", "max_slowdown", "reuse", "fresh", "shard",
)  # fmt: skip
"""Options without meaning for a training."""

CONFIG = pytest.StashKey[CheckOptions | TrainingOptions]()
ASKED = pytest.StashKey[bool]()
"""Whether anything about a device was asked for on the command line."""


def asks_for_training(config: pytest.Config) -> bool:
    """Tell whether ``-m`` names the tests of devices that train; as ``not training`` it does not.

    Raises:
        HarnessError: It asks for them together with tests of devices that infer.
    """
    text = config.option.markexpr or ""
    if "training" not in text:
        return False
    try:
        expression = Expression.compile(text)
    except SyntaxError:
        return False  # pytest says so itself
    chosen = {mark for mark in (*OTHERS, "training", "") if _selects(expression, mark)}
    if "training" not in chosen or "" in chosen:
        return False
    if chosen != {"training"}:
        cause = "devices that train are others than those that infer"
        raise HarnessError(cause, field=f"-m {text}", remedy="run -m training by itself")
    return True


def _selects(expression: Expression, mark: str) -> bool:
    """Tell whether a test with this one marker is selected."""

    def matches(name: str, /, **_: str | int | bool | None) -> bool:
        return name == mark

    return expression.evaluate(matches)


def take_stated(config: pytest.Config) -> None:
    """Give the options that are not on the command line the values that a file states.

    Raises:
        HarnessError: See `stated_options`.
    """
    option = config.option
    config.stash[ASKED] = any(getattr(option, name) is not None for name in ("device", "model", *OPTIONAL))
    file = None if option.config is None else Path(option.config)
    overruled = {opposite for name, opposite in OPPOSITES.items() if getattr(option, name)}
    for name, value in stated_options(file, training=asks_for_training(config)).items():
        if getattr(option, name) in (None, False) and name not in overruled:
            setattr(option, name, value)


def options_of(config: pytest.Config) -> CheckOptions | TrainingOptions:
    """Read and check the options.

    Raises:
        HarnessError: One has a value that makes no sense.
    """
    option = config.option
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0") or 0) or (option.numprocesses or 0)
    if asks_for_training(config):
        return parse_training_options(
            device=option.device,
            model=option.model,
            precision=option.precision,
            weights=option.weights,
            processes=option.processes,
            results=option.results,
            report=option.report,
            baseline=option.baseline,
            allow_other_weights=option.allow_other_weights,
            expectations=option.expectations,
            outputs=option.outputs,
            workers=workers,
            without_meaning={name: getattr(option, name) or None for name in INFERENCE_ONLY},
        )
    if option.processes is not None:
        raise HarnessError("only a training has processes", field="--processes", remedy="add -m training")
    if option.numprocesses and (option.markexpr or "").strip() == "perf":
        cause = "processes that share the machine spoil each other's times"
        raise HarnessError(cause, field="-m perf -n", remedy="leave -n out")
    if option.shard is not None and (option.markexpr or "").strip() == "perf":
        cause = "a part has no speed: those of a run are measured in one piece"
        raise HarnessError(cause, field="-m perf --shard", remedy="leave --shard out")
    return parse_options(
        device=option.device,
        model=option.model,
        precision=option.precision,
        calibration_images=option.calibration_images,
        allow_other_weights=option.allow_other_weights,
        reuse=option.reuse,
        fresh=option.fresh,
        workers=workers,
        **{name: getattr(option, name) for name in OPTIONAL},
    )


def model_of(config: pytest.Config) -> str:
    """Return the name of the model, also where the options could not be read."""
    if CONFIG in config.stash:
        return config.stash[CONFIG].model
    return str(config.option.model or DEFAULT_MODEL)


def asks_for_a_device(config: pytest.Config) -> bool:
    """Tell whether anything about a device was asked for on the command line."""
    if isinstance(config.stash[CONFIG], TrainingOptions):
        return True
    return config.stash[ASKED]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the suite."""
    add = parser.getgroup("centernet", "CenterNet conformance").addoption
    devices, models = ", ".join(device_names()), ", ".join(model_card_names())
    trainers = ", ".join(training_device_names())
    text = f"devices to check (known: {devices}; default: {DEFAULT_DEVICE}); of -m training: {trainers} (default: cpu)"
    add("--device", metavar="NAME[,NAME]", help=text)
    text = f"model card: a .toml, or one of {models} (default: {DEFAULT_MODEL}; of -m training: {TRAINED_MODEL})"
    add("--model", metavar="CARD", help=text)
    add("--weights", metavar="FILE", help="PyTorch weights (.pth) of the card's network")
    add("--onnx", metavar="FILE", help="an ONNX of the model, run as it is instead of an export")
    add("--coco", metavar="ROOT", help="data set: ROOT/annotations/instances_val2017.json and ROOT/val2017/")
    add("--limit", type=int, metavar="N", help="only the first N images")
    add("--batch-sizes", metavar="N[,N]", help="batch sizes to check, each with its AP (default: the card's)")
    add("--precision", metavar="NAME", help="precision to run at (default: the first on the device's card)")
    text = f"images that int8 takes its ranges from, spread over the data set (default: {DEFAULT_IMAGES})"
    add("--calibration-images", type=int, metavar="N", help=text)
    text = f"with -m training: most processes that train together (default: {DEFAULT_PROCESSES})"
    add("--processes", type=int, metavar="N", help=text)
    add("--outputs", metavar="DIR", help="outputs of every image, made on another host; nothing is run")
    add("--results", metavar="FILE", help="write the results document (JSON), also when the run fails")
    add("--report", metavar="DIR", help="write a page for people (HTML, Markdown), tables and a badge")
    add("--baseline", metavar="FILE", help="an earlier results document: fail where this run is worse")
    add("--allow-other-weights", action="store_true", help="hold a new training to the baseline of an older one")
    text = "an ONNX, weights (.pth) or a second device: fail where the model is slower than that"
    add("--against", metavar="OLD", help=text)
    text = "time that it may take longer (default: 5%% than --against, 10%% than --baseline)"
    add("--max-slowdown", metavar="N%%", help=text)
    add("--expectations", metavar="FILE", help="known failures (TOML): each must fail as it says, and excuses no more")
    add("--reuse", action="store_true", help="take outputs of the devices, too, that earlier runs stored")
    add("--fresh", action="store_true", help="take nothing that earlier runs stored")
    text = "run one of N parts of the images: 'python -m harness merge' gives the verdict on all"
    add("--shard", metavar="I/N", help=text)
    text = (
        "these options, without the dashes (TOML; default: [tool.centernet-conformance] of the nearest pyproject.toml)"
    )
    add("--config", metavar="FILE", help=text)
