"""Checkpoints: nothing in them is executed, every name and shape must match, and a refusal has a reason."""

import io
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.centernet.networks import HeadedNetwork, create_model
from harness.errors import HarnessError
from harness.files import file_sha256
from harness.training.weights import load_weights, read_state_dict

State = dict[str, Tensor]


def network(classes: int = 3) -> HeadedNetwork:
    return create_model("resdcn_18", {"hm": classes, "wh": 2, "reg": 2}, width=0.0625)


def trained_state() -> State:
    """Make a state dict that differs from that of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in network().state_dict().items()
    }


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def prefixed(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


LAYOUTS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "official": lambda state: {"epoch": 140, "state_dict": state},
    "with optimizer": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"step": 1}}}},
    "bare, of DataParallel": prefixed,
    "official, of DataParallel": lambda state: {"epoch": 1, "state_dict": prefixed(state)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_checkpoint_of_every_layout_gives_exactly_its_tensors(tmp_path: Path, layout: str, zipped: bool) -> None:
    state, model = trained_state(), network()
    torch.save(LAYOUTS[layout](state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    load_weights(model, tmp_path / "w.pth")
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


def test_half_precision_is_widened_to_float32(tmp_path: Path) -> None:
    half = {name: t.half() if t.is_floating_point() else t for name, t in trained_state().items()}
    model = network()
    load_weights(model, saved(tmp_path, half))
    assert model.get_parameter("conv1.weight").dtype == torch.float32
    assert torch.equal(model.get_parameter("conv1.weight"), half["conv1.weight"].float())


def test_counters_of_batch_norm_may_be_absent(tmp_path: Path) -> None:
    state, model = trained_state(), network()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    load_weights(model, saved(tmp_path, old))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in old.items())
    assert int(loaded["bn1.num_batches_tracked"]) == 0


def refused(path: Path, match: str, model: HeadedNetwork | None = None) -> HarnessError:
    """Return the error of loading `path`, which must leave the network unchanged."""
    model = model or network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(HarnessError, match=match) as caught:
        load_weights(model, path)
    assert caught.value.file == str(path)
    assert caught.value.remedy
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return caught.value


def test_missing_and_unexpected_names_are_listed(tmp_path: Path) -> None:
    state = trained_state()
    state["extra.weight"] = state.pop("conv1.weight")
    error = refused(saved(tmp_path, state), "not of this network")
    assert "1 missing: conv1.weight" in error.cause
    assert "1 unexpected: extra.weight" in error.cause


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    error = refused(saved(tmp_path, {"only": torch.zeros(1)}), "not of this network")
    count = sum(not name.endswith("num_batches_tracked") for name in network().state_dict())
    assert f"{count} missing: " in error.cause
    assert f" and {count - 8} more" in error.cause


def test_wrong_number_of_classes_is_told_by_its_shapes(tmp_path: Path) -> None:
    error = refused(saved(tmp_path, trained_state()), "of another shape", network(classes=80))
    assert "hm.2.weight is (3, 4, 1, 1), expected (80, 4, 1, 1)" in error.cause
    assert "hm.2.bias is (3,), expected (80,)" in error.cause
    assert "missing" not in error.cause
    assert error.remedy is not None
    assert "number of classes" in error.remedy


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 81000000\n" % (b"0" * 64)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (LFS, "Git LFS pointer"),
        (b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "HTML page"),
        (b"\n <html lang='en'>", "HTML page"),
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"not a checkpoint at all", "no checkpoint|no PyTorch checkpoint"),
        (bytes(range(256)) * 40, "no checkpoint|no PyTorch checkpoint"),
    ],
    ids=["lfs", "doctype", "html", "empty", "blank", "text", "bytes"],
)
def test_file_that_is_no_checkpoint_is_told_apart(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    refused(path, match)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    refused(tmp_path / "none.pth", "No such file")
    refused(tmp_path, "it is a folder")


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"state_dict": {}}, {"state_dict": None}, {"conv1.weight": 1.5}, torch.zeros(3)]
)
def test_checkpoint_without_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    assert refused(saved(tmp_path, content), "no state dict").field == "state_dict"


@given(share=st.floats(0, 1, exclude_max=True), zipped=st.booleans())
@settings(deadline=None, max_examples=60)
def test_truncated_checkpoint_is_an_error(tmp_path_factory: pytest.TempPathFactory, share: float, zipped: bool) -> None:
    whole = io.BytesIO()
    torch.save({"a.weight": torch.ones(5, 7), "a.bias": torch.ones(5)}, whole, _use_new_zipfile_serialization=zipped)
    path = tmp_path_factory.mktemp("cut") / "weights.pth"
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    with pytest.raises(HarnessError, match=r"truncated|no checkpoint|empty"):
        read_state_dict(path)


class Code:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("pickler", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path, pickler: str) -> None:
    mark, path = tmp_path / "executed", tmp_path / "weights.pth"
    content = {"state_dict": trained_state(), "epoch": Code(mark)}
    with path.open("wb") as file:
        torch.save(content, file) if pickler == "torch" else pickle.dump(content, file, protocol=2)
    refused(path, "more than tensors")
    assert not mark.exists()
    with path.open("rb") as file:  # the mark does appear where the file is trusted
        torch.load(file, weights_only=False) if pickler == "torch" else pickle.load(file)
    assert mark.exists()


def test_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


UNFIT: dict[str, Callable[[Tensor], Tensor]] = {
    "has 1 values that are NaN or infinite": lambda good: good.index_fill(1, torch.tensor(0), float("nan")),
    "is int8": lambda good: good.to(torch.int8),
    "is bool": lambda good: good > 0,
    "is complex64": lambda good: good.to(torch.complex64),
    "is sparse_coo": Tensor.to_sparse,
    "is meta": lambda good: good.to("meta"),
}


@pytest.mark.parametrize("why", UNFIT)
def test_tensor_that_is_no_weight_is_named(tmp_path: Path, why: str) -> None:
    state = trained_state()
    name = next(name for name, tensor in state.items() if tuple(tensor.shape) == (2, 4, 1, 1))
    kernel = state[name][:1, :, :, :].repeat(2, 1, 1, 1)
    kernel[1] = 1
    state[name] = UNFIT[why](kernel)
    found = why.replace("1 values", "2 values")
    refused(saved(tmp_path, {"state_dict": state}), rf"state_dict: 1 tensors are no weights: {name} {found}")


def test_weight_too_large_for_float32_is_named(tmp_path: Path) -> None:
    state = trained_state()
    state["wh.2.bias"] = state["wh.2.bias"].double() + 1e300
    refused(saved(tmp_path, state), r"wh\.2\.bias has 2 values that are NaN or infinite")


class Hostile:
    """An object whose reading would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("exit 1",)


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        torch.jit.script(nn.Linear(2, 2)).save(str(path / "weights.pth"))  # type: ignore[no-untyped-call]
    return path / "weights.pth"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: saved(folder, {"state_dict": {}, "x": Hostile()}), r"more than tensors \(posix\.system\)"),
        (
            lambda folder: saved(folder, network()),
            r"more than tensors \(harness\.\S+\.ResNet\)",
        ),
        (scripted, "truncated or no PyTorch checkpoint\n"),
    ],
    ids=["command", "module", "TorchScript"],
)
def test_advice_to_load_without_protection_is_never_given(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    error = refused(make(tmp_path), said)
    assert "weights_only" not in str(error)
    assert "False" not in str(error)


def test_named_pipe_as_weights_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "cannot read the weights: it is a named pipe")
    with pytest.raises(HarnessError, match="it is a named pipe"):
        file_sha256(tmp_path / "weights.pth")
