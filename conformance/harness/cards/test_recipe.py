"""Recipe cards: those that come with the suite load, and what is wrong in another is named."""

from pathlib import Path

import pytest

from harness.cards.recipe import RECIPES, load_recipe, recipe_names
from harness.errors import HarnessError


@pytest.mark.parametrize("name", recipe_names())
def test_card_is_named_as_its_file(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("base_lr =", "base_learning_rate =", "solver.base_learning_rate: unknown key"),
        ("gamma = 0.1", "gamma = 0.0", "solver.gamma: Input should be greater than or equal to 0.000001 "),
        ("steps = [60000, 80000]", "steps = [80000, 60000]", "solver: steps must ascend, and lie after the warm-up"),
        ("iterations = 90000", "iterations = 9e4", "solver.iterations: Input should be a valid integer"),
        ("base_lr = 0.02", "base_lr = nan", "solver.base_lr: "),
        ("flip = 0.5", "flip = 1.5", "augmentation.flip: Input should be less than or equal to 1 "),
        ("[640, 672, 704, 736, 768, 800]", "[]", "augmentation.shortest_edges: "),
        ('name = "centernet2_1x"', 'name = "../x"', "name: a name has 1 to 64 of "),
    ],
)
def test_what_is_wrong_in_a_card_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (RECIPES / "centernet2_1x.toml").read_text()
    assert old in text
    (tmp_path / "card.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(HarnessError) as caught:
        load_recipe(tmp_path / "card.toml")
    assert f"card.toml: {said}" in str(caught.value)


@pytest.mark.parametrize("name", ["centernet2_2x", "../recipes/centernet2_1x", "$(touch x)"])
def test_card_that_is_not_there_is_named_with_those_that_are(name: str) -> None:
    with pytest.raises(HarnessError, match=r"--recipe: no recipe card named .*\n  remedy: use one of centernet2_1x, "):
        load_recipe(name)
