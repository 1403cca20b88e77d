"""The training loop: Adam, warm-up and cosine, and checkpoints from which a killed run is resumed."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
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
from harness.files import whole_file
from harness.run.signals import held_signals
from harness.training.order import SampleNumbers
from harness.training.schedule import cosine_learning_rate
from harness.training.weights import load_tensors, load_weights

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
        HarnessError: The card has no network or other heads, the crop does not suit, the checkpoint cannot be read or
            is of another network or other settings, the loss is no longer finite, or the checkpoint cannot be written,
            as on a full disk; the last one stays.
    """
    model = _fresh_model(card, settings)
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate)
    _make(folder)
    checkpoint = folder / "last.pth"
    start = _resume(checkpoint, model, optimizer, settings) if checkpoint.exists() else 0
    loader: DataLoader[Any] = DataLoader(
        Samples(dataset, card, settings.crop, settings.seed, settings.overlap),
        batch_sampler=SampleNumbers(start, settings.iterations, settings.batch_size),
        collate_fn=collate,
        # No workers: samples take a fourteenth of a step, and a forked process can wait forever for a lock that another
        # thread held when it was forked, such as one of OpenCV's.
        num_workers=0,
    )
    done = start
    try:
        for images, targets in loader:
            rate = cosine_learning_rate(settings.learning_rate, settings.iterations, done)
            with held_signals():  # a step that is left in its middle is neither done nor undone
                losses = _step(model, optimizer, images, targets, rate, settings)
                done += 1
            if report is not None:
                report(done, {**losses, "learning_rate": rate})
            if done % save_every == 0:
                _save(checkpoint, model, optimizer, done, settings, len(dataset))
    except KeyboardInterrupt:  # an interrupted run keeps its progress; after an error the last good checkpoint stays
        _save(checkpoint, model, optimizer, done, settings, len(dataset))
        raise
    _save(checkpoint, model, optimizer, done, settings, len(dataset))
    return checkpoint


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"it cannot be made: {error.strerror}", file=folder, field="--output", remedy="name another folder"
        ) from error


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


def _step(
    model: HeadedNetwork,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    targets: TargetBatch,
    rate: float,
    settings: Settings,
) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        heads = model(images)
    losses = centernet_loss(heads, targets)
    optimizer.zero_grad(set_to_none=True)
    losses["total"].backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    optimizer.step()
    values = {name: loss.item() for name, loss in losses.items()}
    if not math.isfinite(values["total"]):
        raise HarnessError("the loss is not finite: training has diverged", remedy="lower --learning-rate")
    return values


def _save(
    path: Path, model: HeadedNetwork, optimizer: torch.optim.Optimizer, done: int, settings: Settings, images: int
) -> None:
    content = {
        "epoch": done * settings.batch_size // images,
        "iteration": done,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": asdict(settings),
    }
    with whole_file(path) as partial:  # a reader, and a run that is killed here, sees the old or the new one
        partial.write_bytes(_checkpoint(content))


def _checkpoint(content: dict[str, object]) -> memoryview:
    """Return what ``torch.save`` writes; where it writes to a full disk itself, it does not say what went wrong."""
    saved = io.BytesIO()
    torch.save(content, saved)
    return saved.getbuffer()


def _resume(path: Path, model: HeadedNetwork, optimizer: torch.optim.Optimizer, settings: Settings) -> int:
    load_weights(model, path)
    saved = load_tensors(path)
    found = saved.get("settings")
    found = found if isinstance(found, dict) else {}
    differing = [f.name for f in fields(settings) if found.get(f.name) != getattr(settings, f.name)]
    if differing:
        raise HarnessError(
            f"the checkpoint is of a run with other {', '.join(differing)}",
            file=path,
            remedy="give the same settings to go on with it, or another --output to start anew",
        )
    try:
        optimizer.load_state_dict(saved["optimizer"])
        return int(saved["iteration"])
    except (KeyError, ValueError, TypeError) as error:
        remedy = "give another --output to start anew"
        raise HarnessError(f"no checkpoint to go on from: {error}", file=path, remedy=remedy) from error


def save_weights(state: dict[str, torch.Tensor], path: Path, *, half: bool = False) -> None:
    """Write a state dict as a checkpoint without optimizer.

    Args:
        state: Tensors by name.
        path: File to write.
        half: Write convolution weights in float16, half the size. Batch norms keep float32: variances may be tiny.
    """
    kept = {
        name: tensor.half() if half and tensor.is_floating_point() and tensor.dim() > 1 else tensor
        for name, tensor in state.items()
    }
    with whole_file(path) as partial:
        partial.write_bytes(_checkpoint({"epoch": 0, "state_dict": kept}))
