"""Stage of the static shapes: steps and detections with them equal those without, and nothing is dynamic."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.cards import load_recipe
from harness.cards.recipe import StaticShapes
from harness.centernet2.cases import Case
from harness.centernet2.model import CenterNet2
from harness.centernet2.port import TrainingPort
from harness.centernet2.slots import dropped_text
from harness.centernet2.static import StaticInputs, StaticStep, static_detect, static_inputs, static_step
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.checks.training.static import (
    compare_static_detections,
    compare_static_step,
    require_dropped,
    require_static,
)
from harness.errors import HarnessError
from harness.run.training.options import BATCH
from harness.run.training.session import CASES, RECIPE, TrainingSession
from harness.run.training.stages import ELSEWHERE
from harness.training.devices import IMAGINED, full_float32
from harness.training.static_check import find_dynamic

STAGE = "training-static-shapes"
MARGIN = 32
"""Pixels, a multiple of the stride, by which a batch is padded to show what that does."""


def static_shapes(session: TrainingSession, name: str, caps: StaticShapes | None = None) -> StageResult:
    """Hold steps and detections with static shapes to those without, both of this suite on the device, in float32.

    Padded objects, more slots than needed and slots without proposal may change nothing. Too few slots for objects are
    an error, too few for proposals are counted. The first line whose shapes hang on values, or that mixes devices, is
    named; on a CPU that is looked for on an imagined device as well, which a tensor left on the CPU is not on.

    Args:
        session: Model, batches, devices.
        name: Of the device.
        caps: Numbers of slots; the recipe's by default.
    """
    if session.dumps:
        return not_applicable(STAGE, BATCH, ELSEWHERE)
    caps = caps or load_recipe(RECIPE).static_shapes
    assert caps is not None
    port = session.make_port(name, "fp32")
    with full_float32():
        found = [one for label in CASES for one in _equal(port, label, session.case(label), caps)]
        case = session.case(CASES[0])
        with torch.no_grad():
            plain = static_step(port.model, _inputs(port, case, caps), caps)
            found += _slots(port, case, caps, plain)
            told = _padding(port, case, caps, plain)
        found += _dynamic(port, case, caps)
    result = judge(STAGE, BATCH, found)
    return replace(result, stage=result.stage.model_copy(update={"detail": result.stage.detail or told}))


def _inputs(port: TrainingPort, case: Case, caps: StaticShapes) -> StaticInputs:
    return static_inputs(port.model, case.images, port.truth(case), caps)


def _equal(port: TrainingPort, label: str, case: Case, caps: StaticShapes) -> list[Comparison]:
    """Compare a step and detections."""
    expected = port.step(case).losses
    expected_gradients = port.gradients(expected)
    inputs = _inputs(port, case, caps)
    found = static_step(port.model, inputs, caps)
    compared = compare_static_step(label, found.losses, port.gradients(found.losses), expected, expected_gradients)
    dropped = dropped_text(found.dropped, caps)
    detections = static_detect(port.model, inputs.batch, inputs.sizes, caps)
    return [
        *compared,
        Comparison(f"{label}: proposals without slot", float(found.dropped.sum()), 0, len(case.images), dropped),
        *compare_static_detections(label, detections, port.model(case.images)),
    ]


def _slots(port: TrainingPort, case: Case, caps: StaticShapes, plain: StaticStep) -> list[Comparison]:
    """Require that more slots change nothing, and that too few are not silent."""
    fewest = max(len(own) for own in case.boxes)
    tight = caps.model_copy(update={"truth": fewest})
    found = static_step(port.model, _inputs(port, case, tight), tight).losses
    compared = compare_static_step(f"{caps.truth} slots for {fewest} objects", plain.losses, {}, found, {})
    number = torch.tensor([len(one.boxes) for one in port.step(case).proposals])
    few = caps.model_copy(update={"proposals": int(number.min()) // 2})
    dropped = static_step(port.model, _inputs(port, case, few), few).dropped
    return [
        *compared,
        _refused(port, case, caps.model_copy(update={"truth": fewest - 1})),
        require_dropped("proposals beyond the slots", dropped, number - few.proposals),
    ]


def _refused(port: TrainingPort, case: Case, short: StaticShapes) -> Comparison:
    what = "an image with more objects than slots is refused"
    try:
        _inputs(port, case, short)
    except HarnessError:
        return Comparison(what, 0, 0, 1)
    return Comparison(what, 1, 0, 1, "no error")


def _dynamic(port: TrainingPort, case: Case, caps: StaticShapes) -> list[Comparison]:
    """Look for shapes that hang on values, and for tensors on another device, without values.

    For a device that is not there, forward only: PyTorch has no gradients on it.
    """

    def forward(model: CenterNet2, inputs: StaticInputs) -> Tensor:
        return torch.stack(list(static_step(model, inputs, caps).losses.values())).sum()

    def step(model: CenterNet2, inputs: StaticInputs) -> None:
        forward(model, inputs).backward()  # type: ignore[no-untyped-call]

    def detect(model: CenterNet2, inputs: StaticInputs) -> None:
        static_detect(model, inputs.batch, inputs.sizes, caps)

    inputs, own = _inputs(port, case, caps), port.device.device()
    found = [
        require_static(f"a step on {own}", find_dynamic(port.model, step, inputs, own)),
        require_static(f"a detection on {own}", find_dynamic(port.model, detect, inputs, own)),
    ]
    if own.type == "cpu":
        found += [
            require_static(f"{what} on an imagined device", find_dynamic(port.model, run, inputs, IMAGINED))
            for what, run in (("a step", forward), ("a detection", detect))
        ]
    return found


def _padding(port: TrainingPort, case: Case, caps: StaticShapes, plain: StaticStep) -> str:
    """Say what padding the images of a batch does to the losses."""
    inputs = _inputs(port, case, caps)
    wider = inputs._replace(batch=F.pad(inputs.batch, (0, MARGIN, 0, MARGIN)))
    padded = static_step(port.model, wider, caps)
    before, after = (sum(map(float, one.losses.values())) for one in (plain, padded))
    return (
        f"padding the images by {MARGIN} pixels, which group norm sees, changes the sum of the losses by "
        f"{after / before - 1:+.2%}: `train` pads where --fixed-shape says so"
    )
