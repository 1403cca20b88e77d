"""Cards of strangers: names that are no paths, words of a shell or lines of their own, and numbers that can be run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.support.small_model import small_card
from conformance.support.tiny import CARD
from harness.cards import load_model_card
from harness.cards.device import load_device_card
from harness.convert.ascend.bundle import to_toml
from harness.errors import HarnessError

DEVICE = """\
name = "chip"
description = "a chip"
execution = "stand-in"
toolchain = "none"
dialect = "standard"
precisions = ["fp32"]
"""
HOSTILE = [
    "$(touch X)",
    "/elsewhere/x",
    "[/red]",
    r"sq\nverdict: conforms",
    "..",
    ".",
    "",
    "a" * 65,
    "a b",
    r"\u001b[2J",
]


def load(folder: Path, text: str, read: Callable[[Path], object] = load_model_card) -> None:
    file = folder / "card.toml"
    file.write_text(text)
    read(file)


@pytest.mark.parametrize("name", [*HOSTILE, "chip:simulated"])
def test_name_of_a_model_card_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        HarnessError, match=r"card\.toml: name: a name has 1 to 64 of .* \(it is '.*'\)\n  remedy: "
    ) as caught:
        load(tmp_path, CARD.replace('"tiny"', f'"{name}"'))
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    "name", [*HOSTILE, "chip:", "chip:simulated:x", "chip:../x", ":simulated", r"chip:simulated\n"]
)
def test_name_of_a_device_card_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(HarnessError, match=r"card\.toml: name: a name has 1 to 64 of "):
        load(tmp_path, DEVICE.replace('"chip"', f'"{name}"'), load_device_card)


@pytest.mark.parametrize(
    "name", ["chip", "a.b_c-1", "chip:simulated", "chip:emulated", "chip:simulated:outputs", "a" * 64]
)
def test_usual_names_are_taken(tmp_path: Path, name: str) -> None:
    load(tmp_path, DEVICE.replace('"chip"', f'"{name}"'), load_device_card)
    load(tmp_path, CARD.replace('"tiny"', f'"{name.partition(":")[0]}"'))


def test_names_of_tensors_stay_free_text() -> None:
    names = ("images:0", "/head/Conv_0", "$(touch X)\n")
    card = small_card(image={"name": "images:0"}, output={"names": names})
    assert card.output.names == names
    assert "images:0" in to_toml(card)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mean = [0.408", "mean = [nan", "input.mean.0: .*finite"),
        ("std = [0.289", "std = [inf", "input.std.0: .*finite"),
        ("std = [0.289", "std = [0.0", "input: std must be positive"),
        ("std = [0.289", "std = [1e-320", "input: scale, mean and std make -inf of black"),
        ("std = [0.289", "std = [1e30", "input: scale, mean and std make"),
        ("mean = [0.408", "mean = [1e300", "input: scale, mean and std make"),
        ("scale = 0.00392156862745098", "scale = inf", "input.scale: .*finite"),
        ("height = 64", "height = 3200000", "input.height: .*less than or equal to 16384"),
        ("height = 64", f"height = 0x{'f' * 5000}", "Exceeds the limit"),
        ("height = 64", f"height = {'9' * 5000}", "not valid TOML: Exceeds the limit"),
        ("batch_sizes = [1, 4]", "batch_sizes = [1000000]", "batch_sizes must be positive, and at most 4096"),
        ("batch_sizes = [1, 4]", f"category_ids = [{2**70}]", "category_ids must lie in"),
        ("width = 0.0625", "width = 1e308", "network.width: .*less than or equal to 16"),
        ("width = 0.0625", "width = 1e-9", "network.width: .*greater than or equal to"),
        ("[network]", "[decode]\ntop_k = 1000000000\n[network]", "decode.top_k: .*less than or equal"),
        ("batch_sizes = [1, 4]", "x = " + "[" * 20000, "not valid TOML: nested too deep"),
        ("batch_sizes = [1, 4]", ".".join("a" * 3000) + " = 1", "nested too deep"),
        ("[network]", 'x = "' + "y" * 2**20 + '"\n[network]', r"\d+ bytes, where at most 1048576 are read"),
    ],
    ids=lambda value: value[:24],
)
def test_impossible_numbers_and_depths_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CARD
    with pytest.raises(HarnessError, match=rf"card\.toml: {said}.*\n  remedy: ") as caught:
        load(tmp_path, CARD.replace(old, new))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["../dla_34", "/etc/passwd", "a" * 5000, "x\ny", "nul\0", "-"], ids=ascii)
def test_card_that_ships_is_found_by_a_plain_name_alone(name: str) -> None:
    with pytest.raises(HarnessError, match="--model: no model card named "):
        load_model_card(name)


@pytest.mark.parametrize("name", [f"{'z' * 5000}.toml", "nul\0.toml", "fifo.toml"], ids=["long", "nul", "fifo"])
def test_card_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(HarnessError, match=r"\.toml: cannot be read: "):
        load_model_card(tmp_path / name)
