"""Weights of CenterNet2 are read by the names that the official files have, and nothing in a file is run."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.centernet2 import CenterNet2, create_centernet2
from harness.centernet2.cases import case_model
from harness.centernet2.weights import BACKBONE, from_caffe2, load_backbone, load_weights
from harness.errors import HarnessError

BRANCHES = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}


def caffe2_name(name: str, norms: dict[str, str]) -> str:
    """Name an entry of the backbone as Caffe2 does."""
    layer, _, kind = name.removeprefix(BACKBONE).partition(".norm.")
    if not kind:
        layer = layer.removesuffix(".weight")
    stage, _, rest = layer.partition(".")
    block, _, conv = rest.partition(".")
    of_stem = stage == "stem"
    old = ("res_conv1" if kind else "conv1") if of_stem else f"{stage}_{block}_{BRANCHES[conv]}"
    return f"{old}_bn_{norms[kind]}" if kind else f"{old}_w"


SHORT = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
LONG = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return case_model("narrow").state_dict()


def backbone_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(BACKBONE)}


def differing(model: CenterNet2, state: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])}


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("under_model", [False, True])
def test_official_checkpoint_is_loaded(
    tmp_path: Path, golden: dict[str, torch.Tensor], pixels: bool, under_model: bool
) -> None:
    state = dict(golden)
    if pixels:
        state |= {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    torch.save({"model": state, "iteration": 3, "optimizer": {}} if under_model else state, tmp_path / "w.pth")
    model = create_centernet2("narrow")
    load_weights(model, tmp_path / "w.pth")
    assert not differing(model, golden)


@pytest.mark.parametrize("names", ["short", "long", "detectron2", "whole"])
def test_backbone_is_loaded_by_the_names_of_its_sources(
    tmp_path: Path, golden: dict[str, torch.Tensor], names: str
) -> None:
    renamed = {
        "short": lambda name: caffe2_name(name, SHORT),
        "long": lambda name: caffe2_name(name, LONG),
        "detectron2": lambda name: name.removeprefix(BACKBONE),
        "whole": lambda name: name,
    }[names]
    state = {renamed(name): tensor for name, tensor in backbone_of(golden).items()}
    torch.save({**state, "fc1000_w": torch.zeros(2, 2), "fc1000_b": torch.zeros(2)}, tmp_path / "r.pth")
    model = create_centernet2("narrow")
    load_backbone(model, tmp_path / "r.pth")
    assert not any(name.startswith(BACKBONE) for name in differing(model, golden))
    assert any(not name.startswith(BACKBONE) for name in differing(model, golden))


def test_every_entry_of_the_backbone_has_a_name_of_caffe2(golden: dict[str, torch.Tensor]) -> None:
    for name in backbone_of(golden):
        assert BACKBONE + from_caffe2(caffe2_name(name, SHORT)) == name
    assert from_caffe2("res2_0_branch2a_bn_other") == "res2_0_branch2a_bn_other"


class Runs:
    """A pickle that would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.file),)


def test_pickle_is_not_run_and_how_to_convert_it_is_said(tmp_path: Path) -> None:
    for content in ({"model": {"conv1_w": np.zeros(3)}}, Runs(tmp_path / "made")):
        (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(HarnessError, match="a pickle can run anything") as caught:
            load_backbone(create_centernet2("narrow"), tmp_path / "R-50.pkl")
        assert "torch.save" in str(caught.value.remedy)
        assert "weights_only" not in caught.value.message()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("backbone.fpn_lateral3.weight"), "1 missing: backbone.fpn_lateral3.weight"),
        (lambda state: state.update(other=torch.zeros(1)), "1 unexpected: other"),
        (lambda state: state.update({"backbone.fpn_lateral3.bias": torch.zeros(7)}), r"is \(7,\), expected \(64,\)"),
        (lambda state: state["backbone.fpn_lateral3.bias"].fill_(torch.nan), "64 values that are NaN or infinite"),
        (lambda state: state.clear(), "no tensors by name"),
    ],
)
def test_checkpoint_of_something_else_is_named(
    tmp_path: Path, golden: dict[str, torch.Tensor], change: object, said: str
) -> None:
    state = {name: tensor.clone() for name, tensor in golden.items()}
    change(state)  # type: ignore[operator]
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(HarnessError, match=said):
        load_weights(create_centernet2("narrow"), tmp_path / "w.pth")
