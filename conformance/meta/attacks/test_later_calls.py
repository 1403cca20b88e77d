"""A device that is right for as long as it is looked at, and wrong later, deviates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conformance.support.tiny import TinySetup
from harness.cards import load_device_card
from harness.cards.device import CARDS, Execution
from harness.devices.artifact import Artifact
from harness.devices.torch import TorchDevice
from harness.report.records import Stage
from harness.run import stages
from harness.run.options import parse_options
from harness.run.pairs import LEAST_CALLS
from harness.run.session import Session
from harness.types import Outputs

pytestmark = [pytest.mark.attacks, pytest.mark.usefixtures("one_thread")]

Spoil = Callable[[int, dict[str, NDArray[Any]]], object]
"""Changes the outputs of a call, given its number from 1."""


class Spoiled(TorchDevice):
    """The network itself, until its outputs are spoiled."""

    def __init__(self, spoil: Spoil, execution: Execution = "stand-in", precision: str = "fp32") -> None:
        super().__init__()
        changes = {"name": "chip", "execution": execution, "precisions": ("fp32", precision)}
        self.card = load_device_card(CARDS / "torch.toml").model_copy(update=changes)
        self.spoil, self.precision, self.calls = spoil, precision, 0

    def convert(self, exported: Any, batch_size: int, precision: str) -> Artifact:  # noqa: ANN401
        """Convert as for float32, whatever is asked for."""
        del precision
        return super().convert(exported, batch_size, "fp32")

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run, and spoil."""
        outputs = {name: np.array(values) for name, values in super().run(artifact, images).items()}
        self.calls += 1
        self.spoil(self.calls, outputs)
        return outputs


def after(call: int) -> Spoil:
    """Exchange width and height in all calls after one."""

    def spoil(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        if number > call:
            outputs["wh"] = outputs["wh"][:, ::-1].copy()

    return spoil


def heads(tiny: TinySetup, folder: Path, device: Spoiled, limit: int, size: int = 1, *, first: str = "") -> Stage:
    """Judge the heads of a device; before it, where `first` says so, its accuracy or nothing."""
    options = parse_options(
        model=str(tiny.card), weights=tiny.weights, coco=tiny.coco, limit=limit, batch_sizes=str(size),
        precision=device.precision,
    )  # fmt: skip
    session = Session(options, folder, lambda text: None)
    session.add_device("chip", device)
    if first == "accuracy":
        stages.accuracy(session, "chip", size)
    return stages.heads(session, "chip", size).stage


@pytest.mark.attacks(always=True)
def test_one_image_and_wrong_after_twenty_calls(tiny: TinySetup, tmp_path: Path) -> None:
    device = Spoiled(after(20))
    found = heads(tiny, tmp_path, device, limit=1)
    assert found.outcome == "failed"
    assert "image 139, sample 0, call 2" in (found.detail or "")
    assert device.calls >= LEAST_CALLS


@pytest.mark.parametrize("size", [2, 4])
def test_few_images_in_batches_and_wrong_after_twenty_calls(tiny: TinySetup, tmp_path: Path, size: int) -> None:
    assert heads(tiny, tmp_path, Spoiled(after(20)), limit=3, size=size).outcome == "failed"


@pytest.mark.parametrize("first", ["", "accuracy"])
def test_wrong_in_the_last_batch_of_the_run_over_all_images(tiny: TinySetup, tmp_path: Path, first: str) -> None:
    # The heads of eight images are asked for alone, and then come the eleven of the run, or the other way about.
    wrong = 11 if first == "accuracy" else 19

    def spoil(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        if number == wrong:
            outputs["reg"] += 0.5

    found = heads(tiny, tmp_path, Spoiled(spoil), limit=11, first=first)
    assert found.outcome == "failed"
    assert "in the run over all images, head reg: measured 0.5" in (found.detail or "")


def test_wrong_in_the_first_batch_of_the_run_over_all_images(tiny: TinySetup, tmp_path: Path) -> None:
    def spoil(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        if number == 1:
            outputs["hm"] -= 1

    found = heads(tiny, tmp_path, Spoiled(spoil), limit=11, first="accuracy")
    assert (found.outcome, "in the run over all images, head hm" in (found.detail or "")) == ("failed", True)


def test_nan_in_a_later_call_deviates(tiny: TinySetup, tmp_path: Path) -> None:
    def spoil(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        if number == LEAST_CALLS:
            outputs["hm"][0, 0, 0, 0] = np.nan

    found = heads(tiny, tmp_path, Spoiled(spoil), limit=1)
    assert (found.outcome, "NaN" in (found.detail or "")) == ("failed", True)


def test_output_of_another_shape_in_a_later_call_deviates(tiny: TinySetup, tmp_path: Path) -> None:
    def spoil(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        if number == LEAST_CALLS:
            outputs["hm"] = outputs["hm"].transpose(0, 2, 3, 1).copy()

    assert heads(tiny, tmp_path, Spoiled(spoil), limit=1).outcome == "failed"


def test_int8_is_held_to_what_it_gave_before(tiny: TinySetup, tmp_path: Path) -> None:
    def rounded(outputs: dict[str, NDArray[Any]]) -> None:
        for name, values in outputs.items():
            outputs[name] = np.round(values * 64) / 64

    def always(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        rounded(outputs)

    def later(number: int, outputs: dict[str, NDArray[Any]]) -> None:
        rounded(outputs)
        after(20)(number, outputs)

    for spoil, outcome in ((always, "not-applicable"), (later, "failed")):
        folder = tmp_path / outcome
        folder.mkdir()
        assert heads(tiny, folder, Spoiled(spoil, precision="int8"), limit=1).outcome == outcome


def test_simulator_is_not_called_for_nothing(tiny: TinySetup, tmp_path: Path) -> None:
    device = Spoiled(after(20), "simulated")
    assert heads(tiny, tmp_path, device, limit=1).outcome == "passed"
    assert device.calls == 2
