"""Cards of two-stage detectors: what they say, what is refused, and who is told that they have no heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cards import COCO_CATEGORY_IDS, ModelCard, TwoStageCard, load_card, load_model_card, model_card_names
from harness.centernet2 import create_model
from harness.centernet2.inference import require_settings
from harness.errors import HarnessError

CARD = """\
name = "own"
family = "centernet2"
description = "a network of mine"
source = "this test"
network = "narrow"

[test]
shortest_edge = 800
longest_edge = 1333
"""


def load(folder: Path, text: str, read: Callable[[Path], object] = load_card) -> object:
    file = folder / "card.toml"
    file.write_text(text, encoding="utf-8")
    return read(file)


@pytest.mark.parametrize(("name", "network", "published"), [("r50", "r50", [0.429]), ("narrow", "narrow", [])])
def test_cards_that_ship_have_the_official_test_size(name: str, network: str, published: list[float]) -> None:
    card = load_card(f"centernet2_{name}")
    assert isinstance(card, TwoStageCard)
    assert (card.network, card.test.shortest_edge, card.test.longest_edge) == (network, 800, 1333)
    assert (card.category_ids, card.batch_sizes) == (COCO_CATEGORY_IDS, (1,))
    assert [one.ap for one in card.published] == published
    require_settings(card)


def test_every_card_that_ships_is_of_the_kind_that_its_family_says() -> None:
    kinds = {name: type(load_card(name)) for name in model_card_names()}
    assert {name for name, kind in kinds.items() if kind is TwoStageCard} == {
        "centernet2_embedded",
        "centernet2_narrow",
        "centernet2_r50",
    }
    assert set(kinds.values()) == {ModelCard, TwoStageCard}


def test_model_is_made_by_the_name_of_its_card() -> None:
    with pytest.raises(HarnessError, match="'embedded' is of the family 'centernet'"):
        create_model("embedded")
    narrow = create_model("centernet2_narrow")
    assert narrow.training
    assert narrow.roi_heads.settings.classes == 80


def test_card_without_heads_is_refused_where_heads_are_needed() -> None:
    with pytest.raises(HarnessError, match=r"--model: 'centernet2_r50' is a two-stage detector.*\n  remedy: use infer"):
        load_model_card("centernet2_r50")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("longest_edge = 1333", "longest_edge = 700", "test: longest_edge must not be less"),
        ("longest_edge = 1333", "longest_edge = 1000000", "test.longest_edge: .*less than or equal to 16384"),
        ("shortest_edge = 800", "shortest_edge = 0", "test.shortest_edge: .*greater than 0"),
        ("[test]", "batch_sizes = [1, 4]\n[test]", "batch_sizes"),
        ("[test]", "batch_sizes = [4]\n[test]", r"batch_sizes must be \[1\]"),
        ("[test]", "category_ids = [1, 1]\n[test]", "category_ids must be distinct"),
        ("[test]", "category_ids = [-1]\n[test]", "category_ids must lie in"),
        ("[test]", "[decode]\ntop_k = 3\n[test]", "decode: unknown key"),
        ('"centernet2"', '"centernet3"', "unknown key|family"),
        ('"own"', '"../own"', "name: a name has"),
    ],
    ids=lambda value: value[:24],
)
def test_impossible_card_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CARD
    with pytest.raises(HarnessError, match=rf"card\.toml: .*({said})"):
        load(tmp_path, CARD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('network = "narrow"', 'network = "wide"', "no CenterNet2 named 'wide'"),
        ("[test]", "category_ids = [1, 2]\n[test]", "category_ids: 'own' has 2 categories, the network 80 classes"),
    ],
)
def test_card_that_does_not_fit_the_shared_numbers_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    card = load(tmp_path, CARD.replace(old, new))
    assert isinstance(card, TwoStageCard)
    with pytest.raises(HarnessError, match=said):
        require_settings(card)
