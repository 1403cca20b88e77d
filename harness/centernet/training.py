"""Training of CenterNet: crops, Adam with warm-up and cosine, the losses of the heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from harness.cards import ModelCard
from harness.centernet.loss import TargetBatch, centernet_loss
from harness.centernet.networks import HeadedNetwork, create_model
from harness.centernet.ops import DCNv2
from harness.centernet.samples import Samples, collate
from harness.centernet.targets import MIN_OVERLAP
from harness.data.dataset import Dataset
from harness.devices.memory import require_memory
from harness.errors import HarnessError
from harness.training import loop
from harness.training.checkpoint import not_to_go_on_from, read_of
from harness.training.order import SampleNumbers
from harness.training.schedule import cosine_learning_rate
from harness.training.weights import load_weights

Report = Callable[[int, dict[str, float]], None]
"""Called after every iteration with its number (from 1) and the losses by head, ``total`` and ``learning_rate``."""

GRADIENT_NORM = 35.0
LARGEST_SEED = 2**32 - 1
LARGEST_CROP = 4096
LEAST_CROP = 64
"""Least side of a crop in pixels: 2 x 2 cells at stride 32, since batch norm and the decomposed DCN need several."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a training run; a resumed run must have the same."""

    iterations: int
    batch_size: int = 16
    crop: int = 256
    learning_rate: float = 1e-3
    seed: int = 0
    overlap: float = MIN_OVERLAP
    """Overlap of the drawn peaks, see `gaussian_radius`."""
    bfloat16: bool = False
    """Runs convolutions under bfloat16 autocast; positions of the DCN and losses stay in float32."""


def train(
    card: ModelCard,
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    *,
    save_every: int = 250,
    report: Report | None = None,
) -> Path:
    """Train the card's network, and resume ``folder/last.pth`` if it exists.

    Args:
        card: Architecture, classes, normalisation; its heads must be hm, wh, reg.
        dataset: Images and annotations to train on.
        settings: Settings of the run.
        folder: Folder of the checkpoint.
        save_every: Iterations between checkpoints; a killed run loses at most this many.
        report: Called after every iteration.

    Returns:
        The checkpoint ``folder/last.pth``: ``{"epoch", "state_dict", "optimizer", "iteration", "settings"}``.

    Raises:
        HarnessError: The card has no network or other heads, the crop does not suit; and see `loop.run`.
    """
    training = OneStageTraining(card, dataset, settings)

    def observed(one: loop.Iteration) -> None:
        if report is not None:
            report(one.done, {**one.losses, "learning_rate": one.learning_rate})

    return loop.run(training, folder, save_every=save_every, observers=[observed])


class OneStageTraining:
    """What the loop trains: a CenterNet on crops of a data set; see `train` for the arguments and errors."""

    def __init__(self, card: ModelCard, dataset: Dataset, settings: Settings) -> None:
        self.card, self.dataset, self.settings = card, dataset, settings
        self.model = _fresh_model(card, settings)
        self.optimizer = torch.optim.Adam(self.model.parameters(), settings.learning_rate)

    def batches(self, start: int) -> Iterable[tuple[torch.Tensor, TargetBatch]]:
        """Return the batches of crops and their targets from an iteration on."""
        own = self.settings
        loader: DataLoader[Any] = DataLoader(
            Samples(self.dataset, self.card, own.crop, own.seed, own.overlap),
            batch_sampler=SampleNumbers(start, own.iterations, own.batch_size),
            collate_fn=collate,
            # No workers: samples take a fourteenth of a step, and a forked process can wait forever for a lock that
            # another thread held when it was forked, such as one of OpenCV's.
            num_workers=0,
        )
        return loader

    def step(self, batch: tuple[torch.Tensor, TargetBatch], iteration: int) -> tuple[dict[str, float], float]:
        """Take a step of Adam; return the losses by head and the learning rate."""
        images, targets = batch
        rate = cosine_learning_rate(self.settings.learning_rate, self.settings.iterations, iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.bfloat16):
            heads = self.model(images)
        losses = centernet_loss(heads, targets)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        values = {name: loss.item() for name, loss in losses.items()}
        if not math.isfinite(values["total"]):
            raise loop.diverged("loss is", "lower --learning-rate")
        return values, rate

    def content(self, done: int) -> dict[str, object]:
        """Return what the checkpoint holds; its names are those of the official checkpoints."""
        return {
            "epoch": done * self.settings.batch_size // len(self.dataset),
            "iteration": done,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "settings": asdict(self.settings),
        }

    def restore(self, path: Path) -> int:
        """Restore network and optimizer from a checkpoint, and return how many iterations were done."""
        load_weights(self.model, path)
        saved = read_of(path, asdict(self.settings))
        try:
            self.optimizer.load_state_dict(saved["optimizer"])
            return int(saved["iteration"])
        except (KeyError, ValueError, TypeError) as error:
            raise not_to_go_on_from(path, error) from error


def _fresh_model(card: ModelCard, settings: Settings) -> HeadedNetwork:
    if card.network is None or card.output.heads != ("hm", "wh", "reg") or card.output.box != "wh+reg":
        raise HarnessError(
            "only a card with a [network] and the heads hm, wh, reg can be trained",
            field="--model",
            remedy="add [network] to the card",
        )
    _check_settings(settings)
    torch.manual_seed(settings.seed)
    model = create_model(card.network.arch, card.head_channels, card.network.head_conv, card.network.width)
    model.train()
    for module in model.modules():
        if isinstance(module, DCNv2):
            module.decomposed = True
    return model


def _check_settings(settings: Settings) -> None:
    """Refuse settings that cannot train; NaN is within no limits."""
    crop, rate, seed = settings.crop, settings.learning_rate, settings.seed
    batch = f"a batch of {settings.batch_size} crops of {crop} x {crop} pixels"
    if not LEAST_CROP <= crop <= LARGEST_CROP or crop % 32:
        remedy = f"give a multiple of 32, at least {LEAST_CROP} and at most {LARGEST_CROP}"
        raise HarnessError(f"a crop of {crop} pixels", field="--crop", remedy=remedy)
    if not 0 < rate < math.inf:
        raise HarnessError(f"a learning rate of {rate}", field="--learning-rate", remedy="give a number above 0")
    if not 0 <= seed <= LARGEST_SEED:
        raise HarnessError(f"a seed of {seed}", field="--seed", remedy=f"give a whole number from 0 to {LARGEST_SEED}")
    if not 0 < settings.overlap < 1:
        raise HarnessError(f"an overlap of {settings.overlap}", field="--overlap", remedy="give a share, such as 0.7")
    size = settings.batch_size * 3 * crop**2 * 4
    require_memory(size, batch, field="--batch-size", remedy="give a smaller batch or crop")
