"""A two-stage detector goes the way of every model: a right port conforms, a wrong one deviates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.cards import DeviceCard
from harness.centernet2.cases import case_model
from harness.devices.artifact import Artifact, Exported
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.report.records import Document
from harness.run import session
from harness.run.checking import run_check
from harness.run.options import parse_options
from harness.types import Outputs

PORT = "port"
SMALL = """\
name = "small"
family = "centernet2"
description = "the narrow network on small images"
source = "this test"
network = "narrow"

[test]
shortest_edge = 160
longest_edge = 256
"""

pytestmark = pytest.mark.usefixtures("one_thread")

Arrays = dict[str, NDArray[Any]]
Change = Callable[[Arrays], Arrays]


class Port:
    """The PyTorch network under another name, with a mistake.

    Args:
        change: What it makes of the outputs.
        settings: Other values of the table ``[detections]``.
    """

    def __init__(self, change: Change, settings: dict[str, float]) -> None:
        self.card = DeviceCard(
            name=PORT, description="a port", execution="stand-in", toolchain="none", dialect="module",
            precisions=("fp32",),
        )  # fmt: skip
        self._inner, self._change, self._settings = TorchDevice(), change, settings

    def check(self) -> None:
        """It is there."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Take the network, with the settings of the port."""
        module = case_model("narrow").eval()
        own = module.settings.detections.model_copy(update=self._settings)
        module.settings = module.settings.model_copy(update={"detections": own})
        return self._inner.convert(replace(exported, module=module), batch_size, precision)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, then make the mistake."""
        found = {name: np.asarray(values) for name, values in self._inner.run(artifact, images).items()}
        return self._change(found)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Card and weights."""
    folder = tmp_path_factory.mktemp("small")
    card, weights = folder / "card.toml", folder / "weights.pth"
    card.write_text(SMALL)
    torch.save(case_model("narrow").state_dict(), weights)
    return card, weights


def checked(files: tuple[Path, Path], device: str = "torch", limit: int = 3) -> Document:
    options = parse_options(device=device, model=str(files[0]), weights=files[1], limit=limit)
    return run_check(options, lambda text: None, None)


def of_port(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, change: Change, limit: int = 3, **settings: float
) -> dict[str, tuple[str, str | None]]:
    """Outcome and detail of each stage of a port, and of the run under ``verdict``."""
    port = Port(change, settings)
    monkeypatch.setattr(session, "create_device", lambda name: port if name == PORT else TorchDevice())
    options = replace(
        parse_options(model=str(files[0]), weights=files[1], limit=limit, device="torch"), devices=(PORT,)
    )
    document = run_check(options, lambda text: None, None)
    found = {stage.name: (stage.outcome, stage.detail) for stage in document.runs[0].stages}
    return {**found, "verdict": (document.verdict, None)}


def test_reference_conforms_by_its_second_opinion(files: tuple[Path, Path]) -> None:
    document = checked(files)
    stages = {stage.name: stage for stage in document.runs[0].stages}
    assert document.verdict == "conforms"
    assert stages["detections"].outcome == "passed"
    assert stages["detections"].comparisons == 3
    assert stages["heads"].outcome == "not-applicable"
    assert "no heads" in (stages["heads"].detail or "")


def test_right_port_conforms_though_its_figures_are_rounded(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounded(outputs: Arrays) -> Arrays:
        scores = outputs["scores"].astype(np.float64)
        return {**outputs, "scores": (scores.round(5) * (scores > 0)).astype(np.float32)}

    found = of_port(files, monkeypatch, rounded)
    assert found["detections"][0] == "passed", found
    assert found["verdict"][0] == "conforms"


@pytest.mark.parametrize(
    ("key", "factor", "shift"),
    [("boxes", 1.02, 0.0), ("scores", 1.0, -0.001), ("classes", 1.0, 1.0)],
    ids=["boxes 2 % too large", "scores too low", "classes from 1"],
)
def test_wrong_outputs_deviate(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, key: str, factor: float, shift: float
) -> None:
    def change(outputs: Arrays) -> Arrays:
        values = outputs[key].astype(np.float64) * factor + np.where(outputs["classes"] >= 0, shift, 0.0).reshape(
            outputs["classes"].shape + (1,) * (outputs[key].ndim - 2)
        )
        if key == "classes":
            values %= 80
        return {**outputs, key: values.astype(outputs[key].dtype)}

    found = of_port(files, monkeypatch, change)
    assert found["detections"][0] == "failed"
    assert "are not in the results" in (found["detections"][1] or "")
    assert found["verdict"][0] == "deviates"


@pytest.mark.parametrize("settings", [{"nms": 0.5}, {"score_threshold": 0.3}, {"top_k": 50}], ids=str)
def test_other_choice_of_detections_deviates(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    def padded(outputs: Arrays) -> Arrays:
        lacking = 100 - outputs["classes"].shape[1]
        return {
            name: np.concatenate(
                [values, np.full((len(values), lacking, *values.shape[2:]), -1 if name == "classes" else 0)], axis=1
            ).astype(values.dtype)
            for name, values in outputs.items()
        }

    found = of_port(files, monkeypatch, padded, **settings)
    assert found["detections"][0] == "failed"
    assert found["verdict"][0] == "deviates"


@pytest.mark.parametrize(
    ("name", "made", "said"),
    [
        ("boxes", lambda values: values[:, :, :3], "boxes: expected float32 "),
        ("scores", lambda values: values * np.float32("nan"), "scores of sample 0 holds 100 value"),
        ("classes", lambda values: values + 80, "classes: expected 0..79, or -1"),
        ("classes", lambda values: values.astype(np.int32), "classes: expected int64"),
    ],
    ids=["shape", "NaN", "class", "dtype"],
)
def test_malformed_outputs_fail_the_stage(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str, made: Callable[..., NDArray[Any]], said: str
) -> None:
    found = of_port(files, monkeypatch, lambda outputs: {**outputs, name: made(outputs[name])}, limit=1)
    assert found["detections"][0] == "failed"
    assert said in (found["detections"][1] or "")
    assert found["verdict"][0] == "deviates"


def answer(given: dict[str, object]) -> str:
    """What is said of a check, whether it can begin or not."""
    try:
        document = run_check(parse_options(**given), lambda text: None, None)  # type: ignore[arg-type]
    except HarnessError as error:
        return str(error)
    return f"{document.verdict}: {document.problems}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "onnxruntime"}, "is not exported"),
        ({"weights": None}, "ships without weights"),
        ({"onnx": "x.onnx"}, "no ONNX is taken"),
        ({"precision": "bf16"}, "in fp32 only"),
        ({"batch_sizes": "2"}, "images of one batch need one input shape"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_two_stage_detector_cannot_do_is_said(
    files: tuple[Path, Path], changes: dict[str, object], said: str
) -> None:
    given: dict[str, object] = {"device": "torch", "model": str(files[0]), "weights": files[1], "limit": 2, **changes}
    assert said in answer(given)
