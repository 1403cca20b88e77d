"""The contract of a model: the statements of an artifact before it runs, and the outputs of a device."""

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from conformance.support.small_model import GRID, small_card
from harness.cards import ModelCard
from harness.centernet.heads import DeviceOutputError, check_contract, input_spec, join_heads, output_specs, read_heads
from harness.devices.artifact import Artifact, TensorSpec
from harness.errors import HarnessError

CARD = small_card()
CONCATENATED = small_card(output={"names": ("all",), "heads": ("reg", "hm", "wh"), "concatenated": True})


def artifact(card: ModelCard, batch: int | None = 2, **changes: Any) -> Artifact:  # noqa: ANN401
    return replace(Artifact(None, (input_spec(card, batch),), output_specs(card, batch), batch), **changes)


def with_output(card: ModelCard, **changes: Any) -> Artifact:  # noqa: ANN401
    first, *rest = output_specs(card, 2)
    return artifact(card, outputs=(replace(first, **changes), *rest))


def test_an_artifact_that_keeps_the_contract_passes() -> None:
    extra = TensorSpec("detections", (2, 100, 6), "float32")
    for card in (CARD, CONCATENATED, small_card(image={"layout": "NHWC", "dtype": "uint8"})):
        check_contract(card, artifact(card), 2)
        check_contract(card, artifact(card, None), 2)
        check_contract(card, artifact(card, outputs=(extra, *output_specs(card, 2))), 2)
    check_contract(CARD, with_output(CARD, shape=()), 2)
    keep_res = small_card(image={"keep_res": True})
    check_contract(keep_res, artifact(keep_res, 1), 1)


@pytest.mark.parametrize(
    ("broken", "field", "message"),
    [
        (artifact(CARD, 4), "--batch-sizes", "exactly 4"),
        (artifact(CARD, inputs=()), "input.name", "inputs none, the card says input"),
        (artifact(CARD, inputs=2 * (input_spec(CARD, 2),)), "input.name", "inputs input, input"),
        (artifact(small_card(image={"name": "x"})), "input.name", "inputs x, the card says input"),
        (artifact(small_card(image={"layout": "NHWC"})), "input", r"\(2, 64, 96, 3\), .*\(2, 3, 64, 96\): .*NHWC"),
        (artifact(small_card(image={"height": 96})), None, r"4 points:\n  input: .*\(2, 3, 96, 96\)"),
        (artifact(small_card(image={"dtype": "uint8"})), "input", "uint8, the card says float32"),
        (artifact(CONCATENATED), "output.names", "outputs all, the card says hm, wh, reg"),
        (artifact(small_card(category_ids=(1, 2))), "output", r"\(2, 2, 16, 24\).*another number of channels"),
        (with_output(CARD, shape=(2, 16, 24, 80)), "output", "looks like NHWC"),
        (with_output(CARD, dtype="int8"), "output", "'hm' of dtype int8"),
    ],
)
def test_an_artifact_that_breaks_the_contract_is_refused(broken: Artifact, field: str | None, message: str) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        check_contract(CARD, broken, 2, Path("user.onnx"))
    assert (caught.value.file, caught.value.field) == ("user.onnx", field)


def test_everything_that_a_model_and_its_card_disagree_in_is_listed_at_once() -> None:
    other = small_card(image={"name": "images:0", "layout": "NHWC", "dtype": "uint8"}, category_ids=(1, 2))
    given = artifact(other, 2)
    renamed = replace(given, outputs=(given.outputs[0], replace(given.outputs[1], name="\x1b[2J\nverdict: conforms")))
    with pytest.raises(HarnessError) as caught:
        check_contract(CARD, replace(renamed, batch_size=4), 2, Path("a user's.onnx"))
    first, *listed, remedy = caught.value.message().splitlines()
    assert first == "a user's.onnx: the model and its card disagree in 6 points:"
    assert [line.partition(":")[0] for line in listed] == [
        "  --batch-sizes", "  input.name", "  input", "  input", "  output.names", "  output",
    ]  # fmt: skip
    assert r"outputs hm, \x1b[2J\nverdict: conforms, the card says hm, wh, reg" in listed[4]
    assert remedy.endswith("""python -m harness card --onnx 'a user'"'"'s.onnx' --output card.toml""")


def test_a_model_of_fixed_size_is_refused_for_a_keep_res_card() -> None:
    with pytest.raises(HarnessError, match=r"\(1, 3, 64, 96\), the card says \(1, 3, \?, \?\)"):
        check_contract(small_card(image={"keep_res": True}), artifact(CARD, 1), 1)


def outputs_of(card: ModelCard, batch: int) -> dict[str, NDArray[Any]]:
    """Make outputs of which all values differ."""
    random = np.random.default_rng(0)
    return {s.name: random.random((batch, *map(int, s.shape[1:])), np.float32) for s in output_specs(card, batch)}  # type: ignore[arg-type]


@given(st.integers(1, 5), st.permutations(["hm", "wh", "reg"]), st.booleans(), st.sampled_from(["f2", "f4", "f8"]))
@settings(deadline=None, max_examples=30)
def test_heads_are_found_in_any_order_and_joined(batch: int, order: list[str], concatenated: bool, dtype: str) -> None:
    random = np.random.default_rng(batch)
    made = {h: random.random((batch, 80 if h == "hm" else 2, *GRID)).astype(dtype) for h in ("hm", "wh", "reg")}
    names = ("all",) if concatenated else tuple(f"out_{head}" for head in order)
    card = small_card(output={"names": names, "heads": tuple(order), "concatenated": concatenated})
    parts = [made[head] for head in order]
    outputs = dict(zip(names, [np.concatenate(parts, 1)] if concatenated else parts, strict=True))
    heads = read_heads(card, {"detections": np.zeros(3), **outputs}, batch)
    for head, values in heads.items():
        np.testing.assert_array_equal(values, made[head])
        assert values.dtype == made[head].dtype
    joined = join_heads(card, heads)
    assert list(joined) == list(card.output.names)
    assert all(np.array_equal(joined[name], outputs[name]) for name in names)


def test_a_model_without_reg_has_none() -> None:
    card = small_card(output={"names": ("a", "b"), "heads": ("hm", "wh"), "box": "ltrb"})
    heads = read_heads(card, outputs_of(card, 1), 1)
    assert "reg" not in heads
    assert heads["wh"].shape == (1, 4, *GRID)


def test_heads_of_any_grid_are_read_for_a_keep_res_card_if_they_share_it() -> None:
    card = small_card(image={"keep_res": True})
    outputs = {name: np.zeros((1, c, 20, 30), np.float32) for name, c in (("hm", 80), ("wh", 2), ("reg", 2))}
    assert read_heads(card, outputs, 1)["hm"].shape == (1, 80, 20, 30)
    with pytest.raises(DeviceOutputError, match=r"one grid, got hm \(20, 30\), wh \(20, 29\)"):
        read_heads(card, {**outputs, "wh": np.zeros((1, 2, 20, 29), np.float32)}, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 16, 24, 2), "head wh: expected shape (4, 2, 16, 24), got (4, 16, 24, 2): looks like NHWC"),
        ((4, 2, 24, 16), "got (4, 2, 24, 16): height and width look swapped"),
        ((2, 16, 24), "got (2, 16, 24): the batch dimension is missing"),
        ((4, 84, 16, 24), "got (4, 84, 16, 24): another number of channels"),
        ((3, 2, 16, 24), "got (3, 2, 16, 24): another number of slots"),
        ((4, 2, 8, 12), "got (4, 2, 8, 12): another grid"),
        ((4, 768), "got (4, 768): as many values in another shape"),
        ((), "expected shape (4, 2, 16, 24), got ()"),
    ],
)
def test_a_head_of_another_shape_deviates_and_says_what_it_looks_like(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DeviceOutputError, match=re.escape(message)) as caught:
        read_heads(CARD, {**outputs_of(CARD, 4), "wh": np.zeros(shape, np.float32)}, 4)
    assert (caught.value.stage, caught.value.head) == ("heads", "wh")


@pytest.mark.parametrize("wrong", [np.zeros((1, 2, *GRID), np.int8), torch.zeros(1, 2, *GRID), None])
def test_a_head_that_holds_no_floating_numbers_is_a_deviation(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(DeviceOutputError, match=r"head wh: expected (one of the dtypes|a NumPy array)"):
        read_heads(CARD, {**outputs_of(CARD, 1), "wh": wrong}, 1)


def test_missing_outputs_are_a_deviation_that_lists_what_came() -> None:
    with pytest.raises(DeviceOutputError, match="heads: expected outputs named hm, wh, reg, got all"):
        read_heads(CARD, outputs_of(CONCATENATED, 1), 1)
    with pytest.raises(DeviceOutputError, match="got none"):
        read_heads(CARD, {}, 1)


def test_a_deviation_crosses_processes() -> None:
    error = DeviceOutputError("wh", "float32", "int8", "quantised?", "batch")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "head wh: expected float32, got int8: quantised?"
    assert again.stage == "batch"
