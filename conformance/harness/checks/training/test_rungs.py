"""Values of a rung are compared by what they are, and each message names batch, tensor, expected and found."""

import math
import re

import pytest
import torch
from torch import Tensor

from harness.cards.centernet2 import load_two_stage_settings
from harness.centernet2.cases import load_case
from harness.centernet2.rungs import Rung
from harness.checks.comparison import Comparison
from harness.checks.training.rungs import GROUPS, Basis, Rounded, compare_rung
from harness.checks.training.step import compare_processes, gradients_differ, relative

CASE = load_case("base")
VALUES: dict[Rung, tuple[str, float, float]] = {
    "batch": ("batch", 5e-7, 2e-6),
    "features": ("features p3", 2e-6, 1e-4),
    "pooled": ("stage 0", 5e-7, 1e-5),
    "clipped": ("backbone.fpn_lateral3.bias", 5e-7, 2e-6),
    "parameters": ("change of backbone.fpn_lateral3.bias", 1e-3, 4e-3),
}
"""A value of some rungs, and shares of the largest by which it may, and may not, be off."""


def basis(precision: str = "fp32", rounded: Rounded | None = None) -> Basis:
    return Basis("base", CASE, load_two_stage_settings(), precision, 64, rounded)


def judged(rung: Rung, got: dict[str, Tensor], expected: dict[str, Tensor], **options: object) -> list[Comparison]:
    return compare_rung(rung, basis(**options), got, expected).comparisons  # type: ignore[arg-type]


def ones(count: int = 1) -> Tensor:
    return torch.ones(2, 3) * count


@pytest.mark.parametrize("rung", VALUES)
def test_values_pass_within_what_is_allowed_and_fail_beyond(rung: Rung) -> None:
    name, within, beyond = VALUES[rung]
    for off, fails in ((0.0, False), (within, False), (beyond, True)):
        (found,) = judged(rung, {name: ones() * (1 + off)}, {name: ones()})
        assert (found.problem is not None) == fails, off
        assert found.what == f"base: {name}"


def test_message_names_the_worst_value() -> None:
    got = ones()
    got[1, 2] = 3
    (found,) = judged("batch", {"batch": got}, {"batch": ones()})
    assert str(found).endswith("16.7% of the values are beyond; worst at (1, 2): expected 1, got 3")


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ({"batch": ones() * math.nan}, "NaN or infinite"),
        ({"batch": torch.ones(3, 2)}, r"expected shape \(2, 3\), got \(3, 2\)"),
        ({}, "only one side has: batch"),
        ({"batch": ones(), "more": ones()}, "only one side has: more"),
    ],
)
def test_what_cannot_be_compared_fails(got: dict[str, Tensor], said: str) -> None:
    (found,) = judged("batch", got, {"batch": ones()})
    assert re.search(said, found.problem or "")


def test_loss_is_told_as_a_multiple_of_the_expected_one() -> None:
    name = "loss_centernet_agn_neg"
    (found,) = judged("first-losses", {name: torch.tensor(0.238)}, {name: torch.tensor(1.0)})
    assert found.problem == "expected 1, got 0.238 (x 0.238)"
    (found,) = judged("first-losses", {name: torch.tensor(1.00004)}, {name: torch.tensor(1.0)})
    assert found.problem is None


def test_targets_have_no_order() -> None:
    values = {
        "positives": torch.tensor([5, 3, 5]),
        "rows": torch.tensor([7, 2]),
        "sides": torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        "heatmap": torch.rand(9),
    }
    permuted = {
        **values,
        "positives": torch.tensor([3, 5, 5]),
        "rows": values["rows"].flip(0),
        "sides": values["sides"].flip(0),
    }
    assert not any(one.problem for one in judged("targets", permuted, values))
    once = {**values, "positives": torch.tensor([5, 3, 3])}
    assert [one.what for one in judged("targets", once, values) if one.problem] == ["base: positives"]


def test_gradient_is_wrong_by_its_norm_or_by_its_direction() -> None:
    name, value = "backbone.fpn_lateral3.weight", torch.linspace(1, 2, 100)
    assert judged("gradients", {name: value * 3}, {name: value})[0].problem is not None
    turned = value.clone()
    turned[:2] = value[:2].flip(0) + torch.tensor([0.2, -0.2])
    assert judged("gradients", {name: turned}, {name: value})[0].problem is not None
    nothing = judged("gradients", {name: value}, {name: torch.zeros(100)})
    assert nothing[0].problem is not None


def test_below_float32_gradients_count_by_their_direction_and_losses_by_their_sum() -> None:
    torch.manual_seed(0)
    names = [
        "backbone.bottom_up.x", "backbone.fpn_x", "backbone.top_block.x", "proposal_generator.x",
        "roi_heads.box_head.x", "roi_heads.box_predictor.x",
    ]  # fmt: skip
    expected = {name: torch.randn(1000) for name in names} | {"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(9.0)}
    near = {name: value + 0.1 * torch.randn_like(value) for name, value in expected.items()}
    near |= {"loss_a": torch.tensor(0.9), "loss_b": torch.tensor(9.05)}
    assert not any(one.problem for one in judged("gradients", near, expected, precision="bf16"))
    turned = {**near, names[3]: near[names[3]] + 0.5 * torch.randn(1000)}
    failed = [one.what for one in judged("gradients", turned, expected, precision="bf16") if one.problem]
    assert failed == ["base: gradients of proposal_generator.*, 1 - cosine"]
    # As far as the reference turns in that precision itself, four times, is not held against a device.
    assert not any(
        one.problem
        for one in judged("gradients", turned, expected, precision="bf16", rounded=Rounded(turned, expected))
    )
    missing = {**near, names[1]: torch.zeros(1000)}
    assert "0, expected a norm of" in str(judged("gradients", missing, expected, precision="bf16")[-1])
    own = Rounded({**expected, names[1]: torch.zeros(1000)}, expected)  # so it is in the reference of that precision
    assert judged("gradients", missing, expected, precision="bf16", rounded=own)[-1].what.endswith("cosine")
    silent = {**expected, names[0] + "2": torch.zeros(3)}
    loud = {**near, names[0] + "2": torch.full((3,), 1e-9)}
    assert [one.what for one in judged("gradients", loud, silent, precision="fp16") if one.problem][-1].endswith("x2")


def test_layers_below_float32_are_held_to_what_the_reference_loses_itself() -> None:
    name, value = "features p3", torch.randn(50)
    error = {name: value + 0.01}
    for off, fails in ((0.039, False), (0.041, True)):
        (found,) = judged(
            "features", {name: value + off}, {name: value}, precision="bf16", rounded=Rounded(error, {name: value})
        )
        assert (found.problem is not None) == fails


@pytest.mark.parametrize(("precision", "rung"), [("fp32", "gradients"), ("bf16", "gradients"), ("bf16", "features")])
def test_what_is_allowed_does_not_hang_on_what_a_mistake_would_give(precision: str, rung: Rung) -> None:
    """Twice the reference is not explained by a mistake that gives it 128 times, however far that is from it."""
    name = "features p3" if rung == "features" else "backbone.bottom_up.x"
    right = {name: torch.randn(50)} | {f"{group}x": torch.randn(50) for group in GROUPS if rung == "gradients"}
    error = {key: value * (1 + 1e-4) for key, value in right.items()}
    wrong, explained = ({key: value * factor for key, value in right.items()} for factor in (2, 128))
    found = judged(rung, wrong, explained, precision=precision, rounded=Rounded(error, right))
    assert any(one.problem for one in found)


def test_figures_of_processes_and_of_scaled_losses() -> None:
    names = ("step 1 loss_a", "step 2 loss_a", "gradient of x", "change of x")
    values = {name: torch.full((3,) if "x" in name else (), 2.0) for name in names}
    assert not any(one.problem for one in compare_processes(values, values))
    off = {**values, "gradient of x": values["gradient of x"] * 1.001, "step 1 loss_a": torch.tensor(2.0001)}
    assert [one.what for one in compare_processes(off, values) if one.problem] == ["step 1 loss_a", "gradient of x"]
    assert compare_processes({}, values)[0].problem is not None
    assert gradients_differ("scale", {"x": ones()}, {"x": ones()}, 0.0).problem is None
    assert gradients_differ("scale", {"x": ones() * 128}, {"x": ones()}, 0.0).problem is not None
    assert gradients_differ("scale", {"x": ones() * math.nan}, {"x": ones()}, 0.0).problem is not None
    assert relative("loss", 0.0, 0.0, 1e-6).problem is None
    assert relative("loss", 1e-3, 0.0, 1e-6).problem is not None
