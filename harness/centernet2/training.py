"""Training of CenterNet2 by a recipe card: its data, its step, and what its checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.cards import RecipeCard, Solver
from harness.cards.centernet2 import TwoStageSettings, load_two_stage_settings
from harness.cards.recipe import StaticShapes
from harness.centernet2.labels import Size, Truth
from harness.centernet2.model import CenterNet2
from harness.centernet2.samples import Sample, Samples, resized_size
from harness.centernet2.slots import too_many_objects
from harness.centernet2.stepping import PaddedCenterNet2, StaticStepping, Stepping
from harness.centernet2.weights import load_start, load_weights
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.training import loop, sgd
from harness.training.checkpoint import not_to_go_on_from, random_states, read_of, set_random_states
from harness.training.devices import TrainingDevice, autocast, full_float32, training_device
from harness.training.log import TrainingLog
from harness.training.order import GroupedSampleNumbers
from harness.training.processes import Processes, distributed, require_shares
from harness.training.scaler import LossScale
from harness.training.schedule import scaled_to

Numbered = list[tuple[int, Sample]]
"""Samples of a batch with their numbers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a training run.

    Attributes:
        network: "r50" or "narrow".
        recipe: Solver for the batches of this run, and augmentation.
        iterations: After which the run ends; they cut the schedule and do not scale it.
        seed: Source of weights, order, augmentation and drawn proposals.
        precision: Of the layers.
        loss_scale: Of the gradients, which are divided by it again; None for one that adapts itself.
        fixed_shape: (height, width) that every batch is padded to; None for that of its largest image.
    """

    network: str
    recipe: RecipeCard
    iterations: int
    seed: int = 0
    precision: str = "fp32"
    loss_scale: float | None = 1.0
    fixed_shape: Size | None = None

    @property
    def solver(self) -> Solver:
        """Return the solver of the recipe."""
        return self.recipe.solver

    @property
    def static_shapes(self) -> StaticShapes | None:
        """Return the numbers of slots that steps are computed with; None for shapes that hang on the data."""
        caps = self.recipe.static_shapes
        return caps if caps is not None and caps.in_training else None

    def of_checkpoint(self) -> dict[str, object]:
        """Return what a run that goes on must have in common with the one before, as plain data.

        The number of iterations and of processes are not among it: they change no step but for its rounding.
        """
        shape = None if self.fixed_shape is None else list(self.fixed_shape)
        caps = None if self.static_shapes is None else self.static_shapes.model_dump(mode="json")
        return {
            "network": self.network,
            "solver": self.solver.model_dump(mode="json"),
            "augmentation": self.recipe.augmentation.model_dump(mode="json"),
            "seed": self.seed,
            "precision": self.precision,
            "loss scale": self.loss_scale,
            "fixed shape": shape,
            "static shapes": caps,
        }


def train(
    training: TwoStageTraining, folder: Path, *, save_every: int = 250, observers: Iterable[loop.Observer] = ()
) -> Path:
    """Train in this process, with others where there are any, and go on from ``folder/last.pth``; see `loop.run`.

    The first process writes checkpoint and log, and calls the observers.
    """
    settings, processes = training.settings, training.processes
    watching: list[loop.Observer] = []
    if processes.is_first:
        heading = (
            f"CenterNet2 {settings.network} by recipe {settings.recipe.name}, {settings.precision}",
            f"IMS_PER_BATCH: {settings.solver.batch_size}",
            f"MAX_ITER: {settings.iterations}",
            f"World size: {processes.count}",
        )
        watching = [TrainingLog(folder, heading, settings.iterations), *observers]
    with full_float32():
        return loop.run(training, folder, save_every=save_every, observers=watching, saves=processes.is_first)


def for_batches_of(recipe: RecipeCard, batch_size: int | None) -> tuple[RecipeCard, list[str]]:
    """Scale a recipe to another batch size; return it, and a line on each number that has changed.

    Raises:
        HarnessError: It cannot be scaled so far.
    """
    before = recipe.solver
    after = scaled_to(before, before.batch_size if batch_size is None else batch_size)
    names = ("batch_size", "base_lr", "warmup_iterations", "steps", "iterations")
    changed = [(name, getattr(before, name), getattr(after, name)) for name in names]
    lines = [f"{recipe.name}: {name} {old} -> {new}" for name, old, new in changed if old != new]
    return recipe.model_copy(update={"solver": after}), lines


class TwoStageTraining:
    """What the loop trains: a CenterNet2 on images of a data set.

    Args:
        settings: Of the run.
        dataset: Images and annotations.
        category_ids: Data-set category of each class of the model.
        device: Where it trains.
        processes: That train together, each on its share of every batch.
        weights: Checkpoint to start from; random weights by default.

    Raises:
        HarnessError: A setting does not suit, no image shows an object, or the weights cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        category_ids: Sequence[int],
        device: TrainingDevice | None = None,
        processes: Processes | None = None,
        weights: Path | None = None,
    ) -> None:
        self.settings = settings
        self.processes = Processes() if processes is None else processes
        own = training_device("cpu") if device is None else device
        self.device = own.device(self.processes.local_rank)
        self.samples = Samples(dataset, category_ids, settings.recipe.augmentation, settings.seed)
        numbers = load_two_stage_settings()
        _check(settings, numbers, self.processes, self.samples, len(category_ids))
        torch.manual_seed(settings.seed)
        shape = settings.fixed_shape
        made = CenterNet2(numbers, settings.network) if shape is None else None
        self.model = made or PaddedCenterNet2(numbers, settings.network, shape or (0, 0))
        if weights is not None:
            load_start(self.model, weights)
        own.prepare(self.model, self.processes.local_rank)
        self.optimizer = sgd.make_optimizer(self.model, settings.solver)
        self.loss_scale = LossScale(own, settings.loss_scale)
        caps = settings.static_shapes
        self.static = None if caps is None else StaticStepping(self.model, self.processes.average, caps)
        self.stepping = self._stepping()

    def _stepping(self) -> nn.Module:
        stepping: nn.Module = self.static or Stepping(self.model, self.processes.average)
        if self.processes.count == 1:
            return stepping
        # Every parameter has a gradient in every step, be it 0: an empty sum of losses is a sum all the same.
        return distributed(stepping)

    def batches(self, start: int) -> Iterator[Numbered]:
        """Yield this process's share of the batches from an iteration on."""
        numbers = GroupedSampleNumbers(
            start,
            self.settings.iterations,
            self.settings.solver.batch_size,
            self.samples.is_wide,
            self.processes.rank,
            self.processes.count,
        )
        for batch in numbers:
            yield [(number, self.samples[number]) for number in batch]

    def step(self, batch: Numbered, iteration: int) -> tuple[dict[str, float], float]:
        """Take a step of SGD on the share of a batch; return the losses of the whole batch, and the learning rate."""
        self.model.zero_grad(set_to_none=True)
        truth = [
            Truth(torch.from_numpy(own.boxes).to(self.device), torch.from_numpy(own.classes).to(self.device))
            for _, own in batch
        ]
        drawn_by = [self._generator(number) for number, _ in batch]
        with autocast(self.device, self.settings.precision):
            losses = self.stepping([own.image for _, own in batch], truth, drawn_by)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self.loss_scale.backward(total)
        values = self.processes.average(torch.stack([loss.detach() for loss in losses.values()]))
        named = dict(zip(losses, values.tolist(), strict=True))
        named["total"] = sum(named.values())
        if not math.isfinite(named["total"]):  # before weights and momentum are touched
            raise loop.diverged("loss is", "lower base_lr on the recipe card, or lengthen its warm-up")
        if self.static is not None:
            dropped = self.processes.average(self.static.dropped.float()) * self.processes.count
            named["dropped_proposals"] = float(dropped)
        self.loss_scale.unscale(self.optimizer)
        rate = sgd.ready(self.optimizer, self.settings.solver, iteration)
        self.loss_scale.step(self.optimizer)
        return named, rate

    def _generator(self, number: int) -> torch.Generator:
        """Make the source of the proposals that are drawn of a sample, whichever process has it."""
        seed = np.random.default_rng((self.settings.seed, 2, number)).integers(2**63)
        return torch.Generator().manual_seed(int(seed))

    def content(self, done: int) -> dict[str, object]:
        """Return what the checkpoint holds; the model is under the name of the official checkpoints."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_scale": self.loss_scale.state(),
            "iteration": done,
            "random": random_states(self.device),
            "settings": self.settings.of_checkpoint(),
        }

    def restore(self, path: Path) -> int:
        """Restore all of a checkpoint, and return how many iterations were done."""
        load_weights(self.model, path)
        saved = read_of(path, self.settings.of_checkpoint())
        try:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.loss_scale.restore(saved["loss_scale"])
            set_random_states(saved["random"], self.device)
            return int(saved["iteration"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise not_to_go_on_from(path, error) from error


def _check(settings: Settings, numbers: TwoStageSettings, processes: Processes, samples: Samples, classes: int) -> None:
    """Refuse settings that cannot train, before any work."""
    batch_size, multiple, shape = settings.solver.batch_size, numbers.input.multiple, settings.fixed_shape
    require_shares(batch_size, processes.count)
    if classes != numbers.roi.classes:
        raise HarnessError(
            f"{classes} categories, and the model tells {numbers.roi.classes} classes apart",
            field="category_ids",
            remedy=f"give a model card with {numbers.roi.classes} category_ids",
        )
    if settings.static_shapes is not None:
        _require_slots(settings.static_shapes, samples)
    if shape is None:
        return
    if any(side % multiple or side < multiple for side in shape):
        raise HarnessError(
            f"a shape of {shape[0]} x {shape[1]} pixels",
            field="--fixed-shape",
            remedy=f"give multiples of {multiple}, at least {multiple}",
        )
    drawn = settings.recipe.augmentation
    for image_id in samples.image_ids:
        width, height = samples.dataset.size(image_id)
        for shortest in drawn.shortest_edges:
            size = resized_size(height, width, shortest, drawn.longest_edge)
            if size[0] > shape[0] or size[1] > shape[1]:
                raise HarnessError(
                    f"the image becomes {size[0]} x {size[1]} pixels, and does not fit into {shape[0]} x {shape[1]}",
                    file=samples.dataset.path(image_id),
                    field="--fixed-shape",
                    remedy="give a larger shape, or a recipe with shorter edges",
                )


def _require_slots(caps: StaticShapes, samples: Samples) -> None:
    """Refuse images with more objects than slots."""
    for image_id in samples.image_ids:
        number = len(samples.annotations[image_id])
        if number > caps.truth:
            raise too_many_objects("the image", number, caps, samples.dataset.path(image_id))
