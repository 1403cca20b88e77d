"""Damage to PyTorch checkpoints: archives, pickles that would run something, tensors of other kinds."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

State = dict[Any, Any]


class Payload:
    """Touches a file when it is unpickled.

    Args:
        form: Number of the way in which it does.
        file: To touch.
    """

    def __init__(self, form: int, file: Path) -> None:
        self.form, self.file = form, file

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        code = f"open({str(self.file)!r}, 'w').close()"
        forms: tuple[tuple[Any, ...], ...] = (
            (os.system, (f"touch {self.file}",)), (eval, (code,)), (exec, (code,)), (open, (str(self.file), "w")),
            (Path.touch, (self.file,)),
        )  # fmt: skip
        return forms[self.form % len(forms)]


def run_something(random: Random, source: Path, target: Path) -> str:
    """Put into the checkpoint what runs when it is unpickled."""
    state, payload = _state(source), Payload(random.randrange(5), target.parent / "canary")
    name = random.choice(list(state))
    form = random.randrange(4)
    if form == 0:
        target.write_bytes(pickle.dumps({"state_dict": {**state, name: payload}}))
        return "plain pickle that runs something"
    content = ({"state_dict": {**state, "extra": payload}}, {"state_dict": state, "epoch": payload}, payload)[form - 1]
    torch.save(content, target, _use_new_zipfile_serialization=random.random() < 0.7)
    return "checkpoint that runs something"


def change_member(random: Random, source: Path, target: Path) -> str:
    """Change a member of the archive: its bytes, its name, its number."""
    with zipfile.ZipFile(source) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = random.choice((0, 0, 0, *range(len(members))))  # the pickle is the first
    name, data = members[place]
    kind = random.choice(("bytes", "bytes", "bytes", "cut", "gone", "twice", "renamed", "long", "compressed"))
    if kind == "bytes" and data:
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 5))):
            changed[random.randrange(len(changed))] = random.choice(
                (0, 1, 0x2E, 0x63, 0x52, 0xFF, random.randrange(256))
            )
        data = bytes(changed)
    data = data[: random.randrange(len(data) + 1)] if kind == "cut" else data * 3 if kind == "long" else data
    name = random.choice(("../../canary", "/canary", "x" * 300, f"{name}\n")) if kind == "renamed" else name
    members[place : place + 1] = [] if kind == "gone" else [(name, data)] * (2 if kind == "twice" else 1)
    method = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for one, content in members:
            archive.writestr(one, content)
    return f"member {place}: {kind}"


TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda tensor: torch.full_like(tensor.float(), float("nan")),
    "inf": lambda tensor: torch.full_like(tensor.float(), float("inf")),
    "1e38": lambda tensor: torch.full_like(tensor.float(), 3e38),
    "int8": lambda tensor: tensor.to(torch.int8),
    "int64": lambda tensor: tensor.long(),
    "bool": lambda tensor: tensor.bool(),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "float64": lambda tensor: tensor.double(),
    "float16": lambda tensor: tensor.half(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "float8": lambda tensor: tensor.float().to(torch.float8_e5m2),
    "sparse": lambda tensor: tensor.to_sparse(),
    "csr": lambda tensor: tensor.reshape(1, -1).to_sparse_csr(),
    "meta": lambda tensor: tensor.to("meta"),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
    "expanded": lambda tensor: torch.zeros(()).expand(tensor.shape),
    "huge": lambda tensor: torch.zeros(()).expand(2**40),
    "empty": lambda tensor: tensor.flatten()[:0],
    "scalar": lambda tensor: tensor.flatten()[0].clone() if tensor.numel() else tensor,
    "transposed": lambda tensor: tensor.mT if tensor.dim() > 1 else tensor[None],
    "parameter": lambda tensor: torch.nn.Parameter(tensor.float()),
    "of grad": lambda tensor: tensor.float().requires_grad_(),
    "number": lambda tensor: 3,
    "none": lambda tensor: None,
    "list": lambda tensor: tensor.flatten()[:3].tolist(),
    "dict": lambda tensor: {"a": tensor},
}


def change_tensor(random: Random, source: Path, target: Path) -> str:
    """Give one tensor another kind, shape or content."""
    state = _state(source)
    kind, name = random.choice(list(TENSORS)), random.choice(list(state))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of quantised and CSR tensors
        state[name] = TENSORS[kind](state[name])
        torch.save({"state_dict": state}, target)
    return f"{name}: {kind}"


def change_names(random: Random, source: Path, target: Path) -> str:
    """Change the names of the tensors, or the form of the whole."""
    state = _state(source)
    name = random.choice(list(state))
    forms: dict[str, Callable[[], Any]] = {
        "one gone": lambda: {key: value for key, value in state.items() if key != name},
        "one more": lambda: {**state, "x" * 3000: state[name]},
        "escaped": lambda: {**state, "\x1b[31m\nverdict: conforms": state[name]},
        "a number as name": lambda: {**state, 7: state[name]},
        "none as name": lambda: {**state, None: state[name]},
        "a tuple as name": lambda: {**state, (1, 2): state[name]},
        "module.": lambda: {f"module.{key}": value for key, value in state.items()},
        "both": lambda: {**state, f"module.{name}": state[name]},
        "empty": dict,
        "a list": lambda: list(state.values()),
        "one tensor": lambda: state[name],
        "nested": lambda: {"state_dict": {"state_dict": state}},
        "none": lambda: {"state_dict": None},
        "bare": lambda: state,
        "a number": lambda: 3,
    }
    kind = random.choice(list(forms))
    content = forms[kind]()
    content = {"state_dict": content} if isinstance(content, dict) and random.random() < 0.7 else content
    torch.save(content, target, _use_new_zipfile_serialization=random.random() < 0.8)
    return f"names: {kind}"


def change_old_format(random: Random, source: Path, target: Path) -> str:
    """Damage the bytes of a checkpoint in the format that PyTorch wrote before 1.6."""
    buffer = io.BytesIO()
    torch.save({"state_dict": _state(source)}, buffer, _use_new_zipfile_serialization=False)
    data = bytearray(buffer.getvalue())
    for _ in range(random.choice((1, 3, 10))):
        data[random.randrange(min(len(data), random.choice((200, 4000, len(data)))))] = random.randrange(256)
    target.write_bytes(data[: random.choice((len(data), len(data), random.randrange(len(data))))])
    return "bytes of the old format"


def _state(source: Path) -> State:
    state: State = dict(torch.load(source, weights_only=True)["state_dict"])
    return state
