"""Training: a short run learns, and one that ends early goes on to the same weights."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conformance.support.default_signals import default_signals
from conformance.support.full_disk import file_size_limit
from conformance.support.small_training import six_images, small_card
from harness.cards import load_model_card
from harness.centernet.loss import centernet_loss
from harness.centernet.networks import create_model
from harness.centernet.samples import Samples, collate
from harness.centernet.training import Settings, train
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.paths import data_path
from harness.training.checkpoint import save_weights
from harness.training.weights import load_weights

SHORT = Settings(iterations=8, batch_size=2, crop=64, learning_rate=0.02, seed=1)


def state_of(checkpoint: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return six_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def uninterrupted(generated: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small_card(), generated, SHORT, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("arch", ["res_18", "dla_34"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_training_lowers_the_loss_on_its_images(generated: Dataset, tmp_path: Path, arch: str, bfloat16: bool) -> None:
    card = small_card(arch)
    images, targets = collate([Samples(generated, card, 64, seed=1)[number] for number in range(12)])

    def loss(model: torch.nn.Module) -> float:
        with torch.no_grad():
            return float(centernet_loss(model.train()(images), targets)["total"])

    fresh = create_model(arch, card.head_channels, None, 0.125)
    trained = create_model(arch, card.head_channels, None, 0.125)
    told: list[tuple[int, dict[str, float]]] = []
    run = Settings(iterations=20, batch_size=4, crop=64, learning_rate=0.05, seed=1, bfloat16=bfloat16)
    load_weights(trained, train(card, generated, run, tmp_path, report=lambda *args: told.append(args)))
    assert loss(trained) < 0.7 * loss(fresh)
    assert [iteration for iteration, _ in told] == list(range(1, 21))
    assert all(set(values) == {"hm", "wh", "reg", "total", "learning_rate"} for _, values in told)


def stop_at(iteration: int) -> Callable[[int, dict[str, float]], None]:
    def report(done: int, losses: dict[str, float]) -> None:
        if done == iteration:
            raise KeyboardInterrupt

    return report


def test_interrupted_run_goes_on_to_the_same_weights(generated: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small_card(), generated, SHORT, tmp_path, report=stop_at(5))
    saved = torch.load(tmp_path / "last.pth", weights_only=True)
    assert (saved["iteration"], saved["epoch"]) == (5, 5 * 2 // 6)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]
    told: list[int] = []
    checkpoint = train(small_card(), generated, SHORT, tmp_path, report=lambda done, _: told.append(done))
    assert told == [6, 7, 8]
    torch.testing.assert_close(state_of(checkpoint), state_of(uninterrupted))


@pytest.mark.attacks
def test_run_that_is_interrupted_within_a_step_goes_on_to_the_same_weights(
    generated: Dataset, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norms have moved by then, and weights not yet."""
    steps, step = list[int](), torch.optim.Adam.step

    def interrupting(self: torch.optim.Adam) -> None:
        steps.append(len(steps))
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch, default_signals():
        patch.setattr(torch.optim.Adam, "step", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(small_card(), generated, SHORT, tmp_path)
    assert torch.load(tmp_path / "last.pth", weights_only=True)["iteration"] == 5
    checkpoint = train(small_card(), generated, SHORT, tmp_path)
    torch.testing.assert_close(state_of(checkpoint), state_of(uninterrupted))


KILLED = """
import os, pathlib, signal, sys, torch
from conformance.support.small_training import small_card
from conformance.harness.training.test_loop import SHORT
from harness.data.dataset import load_coco
from harness.centernet.training import train
def report(done, losses):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(int(sys.argv[3]))  # sums come out the same only in the same number of parts
dataset = load_coco(pathlib.Path(sys.argv[1]), split="train2017")
train(small_card(), dataset, SHORT, pathlib.Path(sys.argv[2]), save_every=3, report=report)
"""


def test_killed_run_goes_on_to_the_same_weights(generated: Dataset, uninterrupted: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(generated.folder.parent), str(tmp_path)]
    command.append(str(torch.get_num_threads()))
    assert subprocess.run(command, check=False, cwd=data_path()).returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "last.pth", weights_only=True)["iteration"] == 3
    checkpoint = train(small_card(), generated, SHORT, tmp_path)
    torch.testing.assert_close(state_of(checkpoint), state_of(uninterrupted))


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.01), ("crop", 96), ("seed", 2), ("bfloat16", True)])
def test_checkpoint_of_other_settings_is_refused(
    generated: Dataset, uninterrupted: Path, name: str, value: float
) -> None:
    before = uninterrupted.read_bytes()
    with pytest.raises(HarnessError, match=f"other {name}"):
        train(small_card(), generated, replace(SHORT, **{name: value}), uninterrupted.parent)
    assert uninterrupted.read_bytes() == before


def test_checkpoint_of_another_network_is_refused(generated: Dataset, uninterrupted: Path) -> None:
    with pytest.raises(HarnessError, match="not of this network"):
        train(small_card("dlav0_34"), generated, SHORT, uninterrupted.parent)


def test_damaged_checkpoint_is_refused(generated: Dataset, tmp_path: Path) -> None:
    (tmp_path / "last.pth").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(HarnessError, match="truncated"):
        train(small_card(), generated, SHORT, tmp_path)


def test_diverged_run_is_an_error_and_leaves_the_last_good_checkpoint(generated: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not finite"):
        train(small_card(), generated, replace(SHORT, learning_rate=1e30), tmp_path, save_every=1)
    assert all(bool(tensor.isfinite().all()) for tensor in state_of(tmp_path / "last.pth").values())


def test_full_disk_is_an_error_that_names_the_checkpoint_and_keeps_the_last(generated: Dataset, tmp_path: Path) -> None:
    with ExitStack() as full:

        def fill(done: int, losses: dict[str, float]) -> None:
            if done == 5:
                full.enter_context(file_size_limit(1000))

        with pytest.raises(HarnessError, match="File too large") as caught:
            train(small_card(), generated, SHORT, tmp_path, save_every=3, report=fill)
    assert caught.value.file == str(tmp_path / "last.pth")
    assert "the disk has space" in (caught.value.remedy or "")
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]
    assert torch.load(tmp_path / "last.pth", weights_only=True)["iteration"] == 3


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_folder_that_cannot_be_made_is_an_error(generated: Dataset, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match="it cannot be made"):
        train(small_card(), generated, SHORT, tmp_path / name)


@pytest.mark.parametrize("crop", [0, 32, 100])
def test_crop_that_does_not_suit_the_network_is_refused(generated: Dataset, tmp_path: Path, crop: int) -> None:
    with pytest.raises(HarnessError, match=f"a crop of {crop} pixels"):
        train(small_card(), generated, replace(SHORT, crop=crop), tmp_path)


def test_small_cardout_a_network_cannot_be_trained(generated: Dataset, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"\[network\]"):
        train(load_model_card("mb3_centernet"), generated, SHORT, tmp_path)


@pytest.mark.parametrize("half", [False, True])
def test_saved_weights_load_strictly_and_are_those_of_the_run(uninterrupted: Path, tmp_path: Path, half: bool) -> None:
    state = state_of(uninterrupted)
    save_weights(state, tmp_path / "weights.pth", half=half)
    card = small_card()
    model = create_model("res_18", card.head_channels, None, 0.125)
    load_weights(model, tmp_path / "weights.pth")
    for name, tensor in model.state_dict().items():
        if half and tensor.dim() > 1:
            # float16 keeps 11 bits and nothing below 2^-24
            torch.testing.assert_close(tensor, state[name], rtol=2**-11, atol=2**-24)
        else:
            assert torch.equal(tensor, state[name]), name
    assert (tmp_path / "weights.pth").stat().st_size < uninterrupted.stat().st_size / (5 if half else 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (replace(SHORT, learning_rate=float("nan")), "--learning-rate: a learning rate of nan"),
        (replace(SHORT, learning_rate=float("inf")), "--learning-rate: a learning rate of inf"),
        (replace(SHORT, learning_rate=-1.0), r"--learning-rate: a learning rate of -1\.0"),
        (replace(SHORT, seed=-1), "--seed: a seed of -1"),
        (replace(SHORT, seed=2**70), "--seed: a seed of "),
        (replace(SHORT, crop=32_000_000), "--crop: a crop of 32000000 pixels"),
        (replace(SHORT, overlap=float("nan")), "--overlap: an overlap of nan"),
        (replace(SHORT, batch_size=2**40), "--batch-size: a batch of .* takes .* TiB, and this machine has"),
    ],
    ids=lambda value: value[:14] if isinstance(value, str) else "",
)
def test_settings_out_of_range_are_named(generated: Dataset, tmp_path: Path, changed: Settings, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        train(small_card(), generated, changed, tmp_path)
