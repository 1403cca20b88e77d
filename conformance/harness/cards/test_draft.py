"""A card as TOML text: read again it is the same card, whatever stands in its texts and comments."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from conformance.support.small_model import small_card
from harness.cards import ModelCard
from harness.cards.draft import card_text, plain_name, toml_value
from harness.cards.schema import is_plain_name, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
VALUES = st.one_of(
    TEXT, st.integers(-(2**53), 2**53), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.lists(TEXT)
)


@given(VALUES)
def test_value_is_read_as_it_was_written(value: object) -> None:
    found = tomllib.loads(f"key = {toml_value(value)}")["key"]
    assert (found, type(found)) == (value, type(value))


@given(TEXT, TEXT, TEXT, st.lists(TEXT, min_size=3, max_size=3, unique=True))
def test_card_is_read_as_it_was_written(heading: str, comment: str, name: str, outputs: list[str]) -> None:
    card = small_card(None, image={"name": name}, output={"names": tuple(outputs)}, description=comment)
    text = card_text(card, {"input.name": comment, "name": comment, "category_ids": comment}, heading)
    assert parse(ModelCard, tomllib.loads(text), Path("card.toml")) == card


@given(st.text())
def test_any_text_becomes_a_plain_name(text: str) -> None:
    assert is_plain_name(plain_name(text))
    assert plain_name("mb3_centernet") == "mb3_centernet"
