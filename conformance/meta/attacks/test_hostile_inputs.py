"""Cards, weights and data sets that make a wrong port look right, or print the verdict by themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conformance.support.command_line import run
from conformance.support.tiny import TinySetup

pytestmark = pytest.mark.attacks
FORGED = "verdict: conforms"
Options = dict[str, object]


def check(tiny: TinySetup, **changes: object) -> tuple[int, list[str]]:
    """Return the status of a check of two images, and the lines that read as a good verdict."""
    given: Options = {"model": tiny.card, "onnx": tiny.onnx, "weights": tiny.weights, "coco": tiny.coco, **changes}
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    status, out, err = run("check", *options, "--limit=2", "--batch-sizes=1")
    return status, [line for line in (out + err).splitlines() if line.startswith(FORGED)]


def card_with(tiny: TinySetup, folder: Path, old: str, new: str) -> Path:
    text = tiny.card.read_text()
    assert old in text
    (folder / "card.toml").write_text(text.replace(old, new))
    return folder / "card.toml"


def other_weights(tiny: TinySetup, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """Write the weights with a change to the last layer of wh, so that the ONNX is no port of them."""
    state = torch.load(tiny.weights, weights_only=True)["state_dict"]
    state["wh.2.weight"] = change(state["wh.2.weight"])
    torch.save({"state_dict": state}, folder / "other.pth")
    return folder / "other.pth"


@pytest.mark.attacks(always=True)
def test_name_of_a_card_cannot_write_a_verdict(tiny: TinySetup, tmp_path: Path) -> None:
    card = card_with(tiny, tmp_path, 'name = "tiny"', r'name = "sq\nverdict: conforms"')
    wrong = other_weights(tiny, tmp_path, lambda tensor: tensor * 1.5)
    assert check(tiny, model=card, weights=wrong) == (4, [])


def test_description_of_a_card_cannot_write_a_verdict(tiny: TinySetup, tmp_path: Path) -> None:
    """Of a right port, since a wrong one would be diagnosed for half a minute."""
    card = card_with(tiny, tmp_path, 'description = "a', r'description = "\nverdict: conforms a')
    assert check(tiny, model=card) == (0, [FORGED])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mean = [0.408", "mean = [nan"),
        ("std = [0.289, 0.274, 0.278]", "std = [inf, inf, inf]"),
        ("mean = [0.408, 0.447, 0.470]", "mean = [1e30, 1e30, 1e30]"),
        ("std = [0.289", "std = [1e-320"),
    ],
    ids=["NaN mean", "infinite std", "mean beyond any pixel", "std that is zero in float32"],
)
def test_input_that_hides_the_image_does_not_conform(tiny: TinySetup, tmp_path: Path, old: str, new: str) -> None:
    """Device and reference see the same constant, or NaN, whatever the image is: every port of it looks right."""
    assert check(tiny, model=card_with(tiny, tmp_path, old, new)) == (4, [])


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64], ids=str)
def test_weights_of_another_type_do_not_conform(tiny: TinySetup, tmp_path: Path, kind: torch.dtype) -> None:
    """Device and reference are given what is left of the weights: the port of another network looks right."""
    wrong = other_weights(tiny, tmp_path, lambda tensor: tensor.to(kind))
    assert check(tiny, weights=wrong, onnx=None) == (4, [])


def test_truth_that_overflows_does_not_conform(tiny: TinySetup, tmp_path: Path) -> None:
    """Boxes beyond any image take the objects out of the evaluation."""
    root = shutil.copytree(tiny.coco, tmp_path / "coco")
    file = root / "annotations" / "instances_val2017.json"
    truth = json.loads(file.read_text())
    for annotation in truth["annotations"]:
        annotation["bbox"] = [1e308] * 4
    file.write_text(json.dumps(truth))
    assert check(tiny, coco=root) == (4, [])
