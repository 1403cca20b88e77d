"""A training of CenterNet2 as it is asked for: settings from options, processes, and the weights at the end."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cards import load_recipe
from harness.centernet2.labels import Size
from harness.centernet2.training import Settings, TwoStageTraining, for_batches_of, train
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.report.escape import printable
from harness.training.checkpoint import save_weights
from harness.training.devices import require_precision, training_device
from harness.training.loop import Observer
from harness.training.processes import Processes, from_environment, joined, launch, require_devices, require_shares
from harness.training.weights import read_state_dict

DYNAMIC = "dynamic"
LARGEST_SCALE = 2.0**32
LARGEST_SEED = 2**32 - 1
SHAPE = re.compile(r"(\d{1,5})[,x](\d{1,5})")


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for.

    Attributes:
        network: "r50" or "narrow".
        category_ids: Data-set category of each class.
        recipe: Name or path of a recipe card.
        batch_size: Images over all processes; the recipe's where it is None.
        iterations: After which the run ends.
        seed: See `Settings`.
        device: Name of the device.
        precision: Of the layers.
        loss_scale: A number or "dynamic"; None for what the precision needs.
        fixed_shape: "H,W" or None.
        processes: To be started, where torchrun has not started them.
        weights: Checkpoint to start from.
        output: Folder of the run.
    """

    network: str
    category_ids: Sequence[int]
    recipe: str
    batch_size: int | None
    iterations: int
    seed: int
    device: str
    precision: str
    loss_scale: str | None
    fixed_shape: str | None
    processes: int
    weights: Path | None
    output: Path


def run(
    request: Request, dataset: Dataset, arguments: Sequence[str], observers: Iterable[Observer], *, half: bool
) -> Path | None:
    """Train as it is asked for.

    Args:
        request: Model, recipe, device and so on.
        dataset: Images and annotations.
        arguments: Of the Python that each process is, where they are to be started.
        observers: Called after every iteration, in the first process.
        half: Whether the weights are written in float16.

    Returns:
        The file of the weights in the process that wrote it; None in the others.

    Raises:
        HarnessError: Something does not suit, or the training failed.
    """
    device = training_device(request.device)
    device.check()
    require_precision(device, request.precision)
    started = from_environment()
    if started is not None and request.processes not in (1, started.count):
        raise HarnessError(
            f"{request.processes} processes are asked for, and torchrun has started {started.count}",
            field="--processes",
            remedy="leave it out where torchrun starts the processes",
        )
    require_devices(device, request.processes if started is None else started.local_count)
    settings, changes = settings_of(request)
    require_shares(settings.solver.batch_size, request.processes if started is None else started.count)
    if started is None and request.processes > 1:
        launch(request.processes, arguments)
        return None
    processes = Processes() if started is None else started
    if processes.is_first:
        for line in changes:
            print(printable(line), file=sys.stderr, flush=True)
    with joined(processes, device.device(processes.local_rank)):
        training = TwoStageTraining(settings, dataset, request.category_ids, device, processes, request.weights)
        left_out = training.samples.without_area
        if left_out and processes.is_first:
            told = f"{dataset.folder}: {left_out} objects are left out: outside their image, or without area"
            print(printable(told), file=sys.stderr, flush=True)
        checkpoint = train(training, request.output, observers=observers)
    if not processes.is_first:
        return None
    path = request.output / "weights.pth"
    save_weights(read_state_dict(checkpoint, "model"), path, half=half, key="model")
    return path


def settings_of(request: Request) -> tuple[Settings, list[str]]:
    """Return the settings of a run, and lines on how the recipe was scaled to its batches."""
    if not 0 <= request.seed <= LARGEST_SEED:
        remedy = f"give a whole number from 0 to {LARGEST_SEED}"
        raise HarnessError(f"a seed of {request.seed}", field="--seed", remedy=remedy)
    recipe, changes = for_batches_of(load_recipe(request.recipe), request.batch_size)
    settings = Settings(
        request.network,
        recipe,
        request.iterations,
        request.seed,
        request.precision,
        _loss_scale(request.loss_scale, request.precision),
        _shape(request.fixed_shape),
    )
    return settings, changes


def _loss_scale(text: str | None, precision: str) -> float | None:
    """Return the loss scale; None for one that adapts itself, as float16 needs it."""
    if text is None:
        return None if precision == "fp16" else 1.0
    if text == DYNAMIC:
        return None
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 1 <= scale <= LARGEST_SCALE:
        remedy = f"give '{DYNAMIC}', or a number from 1, such as 128"
        raise HarnessError(f"a loss scale of '{text}'", field="--loss-scale", remedy=remedy)
    return scale


def _shape(text: str | None) -> Size | None:
    if text is None:
        return None
    found = SHAPE.fullmatch(text)
    if found is None:
        raise HarnessError(
            f"'{text}' is no height and width", field="--fixed-shape", remedy="give two numbers, as in 800,1344"
        )
    return int(found[1]), int(found[2])
