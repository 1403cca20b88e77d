"""The place of an output in the store is another one wherever anything differs that it depends on."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conformance.support.tiny import TinySetup
from harness.devices.artifact import Artifact
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.run import ingredients
from harness.run.options import parse_options
from harness.run.session import Session
from harness.run.shelves import Shelves
from harness.run.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def session(tiny: TinySetup, folder: Path) -> Session:
    options = parse_options(model=str(tiny.card), weights=tiny.weights, coco=tiny.coco, batch_sizes="4")
    return Session(options, folder, lambda text: None)


Change = Callable[[pytest.MonkeyPatch, dict[str, Any]], object]


def _text(file: str, text: str) -> Change:
    """Another content of a file that the ingredients are read from."""
    real = ingredients._text
    return lambda patch, given: patch.setattr(ingredients, "_text", lambda p: text if str(p) == file else real(p))


CHANGES: dict[str, Change] = {
    "code of the suite": lambda patch, given: patch.setattr(ingredients, "own_code", lambda: "another"),
    "version of a package": lambda patch, given: patch.setattr(ingredients, "installed", lambda: {"numpy": "0"}),
    "instruction sets": lambda patch, given: patch.setattr(ingredients, "processor", lambda: ["another"]),
    "driver": _text(ingredients.DRIVERS[0], "another"),
    "cores": lambda patch, given: patch.setattr(ingredients, "cores", lambda: 77),
    "threads": lambda patch, given: patch.setattr(torch, "get_num_threads", lambda: 77),
    "environment variable": lambda patch, given: patch.setitem(os.environ, "OMP_SCHEDULE", "dynamic"),
    "executed": lambda patch, given: given.update(artifact=Artifact(None, (), (), None, {"provider": "another"})),
    "batch size": lambda patch, given: given.update(batch_size=5),
    "precision": lambda patch, given: given.update(precision="bf16"),
    "reading": lambda patch, given: given.update(reading="another"),
    "device card": lambda patch, given: given.update(
        device=_carded(given["device"], given["device"].card.model_copy(update={"chips": 2}))
    ),
    "weights": lambda patch, given: given.update(subject=replace(given["subject"], sha256="another")),
    "model card": lambda patch, given: given.update(
        options=replace(given["options"], card=given["options"].card.model_copy(update={"description": "another"}))
    ),
    "plug-in of the user": lambda patch, given: given.update(extra=lambda: {"plugins": {"conftest.py": "hash"}}),
}


def _carded(device: OnnxRuntimeDevice, card: Any) -> OnnxRuntimeDevice:  # noqa: ANN401
    device.card = card
    return device


def place(made: Session, change: Change, patch: pytest.MonkeyPatch, folder: Path) -> Path:
    given: dict[str, Any] = {
        "device": OnnxRuntimeDevice(),
        "artifact": Artifact(None, (), (), None, {"provider": "CPU"}),
        "batch_size": 4,
        "precision": "fp32",
        "reading": "",
        "subject": made.subject,
        "options": made.options,
        "extra": dict,
    }
    with patch.context() as changed:
        change(changed, given)
        options, subject, extra = (given.pop(name) for name in ("options", "subject", "extra"))
        found = Shelves(Store(folder=folder, extra=extra), options, subject, lambda: made.dataset).place(**given)
    assert found is not None
    return found.folder


@pytest.mark.parametrize("name", CHANGES)
def test_every_ingredient_counts(name: str, tiny: TinySetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session(tiny, tmp_path)
    before = place(made, lambda patch, given: None, monkeypatch, tmp_path)
    assert place(made, lambda patch, given: None, monkeypatch, tmp_path) == before
    assert place(made, CHANGES[name], monkeypatch, tmp_path) != before


def test_int8_depends_on_the_images_that_its_ranges_come_from(tiny: TinySetup, tmp_path: Path) -> None:
    made, artifact = session(tiny, tmp_path), Artifact(None, (), (), None)

    def folder(images: int, count: int) -> Path:
        options = replace(made.options, calibration_images=count)
        shelves = Shelves(Store(folder=tmp_path), options, made.subject, lambda: made.dataset.first(images))
        found = shelves.place(OnnxRuntimeDevice(), artifact, 4, "int8")
        assert found is not None
        return found.folder

    assert len({folder(11, 8), folder(10, 8), folder(11, 9)}) == 3
