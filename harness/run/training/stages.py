"""Stages of the check of a training: each takes its values from a session and hands them to a check."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.cases import CLASSES, R50_BOXES, R50_SIZES, Case, load_case, make_case
from harness.centernet2.port import Gradients, TrainingPort
from harness.centernet2.rungs import Rung, Values, fed_clipped, fed_parameters, later_losses, moved
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.checks.training.rungs import compare_rung
from harness.checks.training.sets import with_remarks
from harness.checks.training.step import compare_own_steps, compare_with_golden, gradients_differ
from harness.paths import data_path
from harness.run.training import dumped
from harness.run.training.options import BATCH
from harness.run.training.session import CASES, REFERENCE, TrainingSession
from harness.training.devices import full_float32

ELSEWHERE = "the step was run elsewhere, and cannot be run again here"

TrainingCheck = Callable[[TrainingSession, str], StageResult]
"""From a session and the name of a device to the outcome of a stage."""
NOISE = 4
"""Multiple of the difference of two equal steps that two steps of different scales may have."""
SCALES = (128.0, 65536.0)
"""Powers of two: they change no bit of a gradient but its exponent."""
OVERFLOW = 1e30
"""Twice over, a factor on a loss whose gradients no format of 32 bits holds."""


def rung(session: TrainingSession, name: str, which: Rung) -> StageResult:
    """Hold a rung of a device to the reference's on every batch, both fed by the reference."""
    if session.dumps:
        return dumped.rung(session, which)
    comparisons, close = list[Comparison](), list[str]()
    for case in session.cases_of(which):
        got = session.values(name, session.options.precision, which, case)
        expected = session.values(REFERENCE, "fp32", which, case)
        found = compare_rung(which, session.basis(which, case), got, expected)
        comparisons += found.comparisons
        close += found.close
    result = judge(f"training-{which}", BATCH, comparisons)
    return replace(result, stage=with_remarks(result.stage, close))


def reference(session: TrainingSession, name: str) -> StageResult:
    """Hold the reference itself to one step of the official code."""
    del name
    if session.options.weights is not None:
        reason = "the official step is known for the weights of the golden numbers, not for those of --weights"
        return not_applicable("training-reference", BATCH, reason)
    network = session.options.network
    file = data_path("fixtures", "golden", "centernet2", f"{network}_train.json")
    golden = json.loads(file.read_text(encoding="utf-8"))["step_all"]
    port, case = session.reference, _golden_case(network)
    losses = port.step(case).losses
    return judge("training-reference", BATCH, compare_with_golden(losses, port.gradients(losses), golden))


def _golden_case(network: str) -> Case:
    return load_case("base") if network == "narrow" else make_case(R50_SIZES, R50_BOXES, CLASSES)


def clipped(session: TrainingSession, name: str) -> StageResult:
    """Hold the clipping of gradients to the reference's."""
    if session.dumps:
        return not_applicable("training-clipped", BATCH, dumped.NOT_DUMPED)
    return _of_solver(session, name, "clipped", lambda port: fed_clipped(port, session.gradients()))


def parameters(session: TrainingSession, name: str) -> StageResult:
    """Hold learning rates and updated parameters to the reference's."""
    if session.dumps:
        return dumped.parameters(session)
    given = fed_clipped(session.reference, session.gradients())
    return _of_solver(session, name, "parameters", lambda port: fed_parameters(port, given))


def _of_solver(session: TrainingSession, name: str, which: Rung, run: Callable[[TrainingPort], Values]) -> StageResult:
    got, expected = run(session.port(name)), run(session.reference)
    found = compare_rung(which, session.basis(which, CASES[0]), got, expected)
    return judge(f"training-{which}", BATCH, found.comparisons)


def later(session: TrainingSession, name: str) -> StageResult:
    """Hold the losses of steps 1 to 3, each with its own update, to the reference's."""
    if session.dumps:
        return dumped.later(session)
    if session.options.precision != "fp32":
        reason = "below float32, steps from random weights drift apart: 8.58, 12.7, 21.6 against 10.5, 13.6, 13.8"
        return not_applicable("training-later-losses", BATCH, reason)
    case = session.case(CASES[0])
    with full_float32():
        got, expected = later_losses(session.port(name), case), later_losses(session.reference, case)
    found = compare_rung("gradients", session.basis("gradients", CASES[0]), got, expected)
    return judge("training-later-losses", BATCH, found.comparisons)


def own_step(session: TrainingSession, name: str) -> StageResult:
    """Hold the losses of a step that the device runs by itself, from images on, to the reference's."""
    if session.dumps:
        return not_applicable("training-step", BATCH, "every figure of a dump is of a step of its own")
    comparisons, listed = list[Comparison](), list[str]()
    for label in CASES:
        with full_float32():
            got = session.port(name).step(session.case(label))
        found = compare_own_steps(label, session.options.precision, got, session.upstream(label))
        comparisons += found.comparisons
        listed += found.close
    result = judge("training-step", BATCH, comparisons)
    return replace(result, stage=with_remarks(result.stage, listed))


def loss_scale(session: TrainingSession, name: str) -> StageResult:
    """Hold the gradients of scaled losses, in float32, to those of losses that are not scaled: all bits on a CPU.

    A device that adds up in an order of its own differs from itself; a scale may make several times as much.
    """
    if session.dumps:
        return not_applicable("training-loss-scale", BATCH, ELSEWHERE)
    port, case = session.port(name, "fp32"), session.case(CASES[0])
    given = moved([one.given for one in session.upstream(CASES[0]).stages], port.device.device())

    def gradients(scale: float) -> Gradients:
        before, port.loss_scale = port.loss_scale, scale
        try:
            return port.gradients(port.step(case, given).losses)
        finally:
            port.loss_scale = before

    with full_float32():
        plain = gradients(1.0)
        noise = gradients_differ("no loss scale, twice", gradients(1.0), plain, load_training_tolerances().exact.share)
        allowed = NOISE * noise.measured
        scaled = [gradients_differ(f"loss scale {scale:g}", gradients(scale), plain, allowed) for scale in SCALES]
    noise = replace(noise, allowed=max(noise.allowed, noise.measured), problem=None)
    found = [noise, *scaled]
    return judge("training-loss-scale", BATCH, found)


def overflow(session: TrainingSession, name: str) -> StageResult:
    """Require that a step whose gradients overflow changes neither weights nor momentum, and halves the scale."""
    if session.dumps:
        return not_applicable("training-overflow", BATCH, ELSEWHERE)
    port, case = session.port(name, "fp32"), session.case(CASES[0])
    before = _state(port)
    optimizer, scaler = port.optimizer(), port.device.make_scaler(SCALES[1])
    try:
        _scaled_step(port, case, optimizer, scaler, 1.0)
        regular, momentum = _state(port), _momenta(optimizer)
        _scaled_step(port, case, optimizer, scaler, OVERFLOW)
        after, pushed = _state(port), _momenta(optimizer)
    finally:
        port.model.load_state_dict(before)
    trained = [key for key, value in regular.items() if not torch.equal(value, before[key])]
    moved = [key for key, value in after.items() if not torch.equal(value, regular[key])]
    changed = [place for place, one in enumerate(momentum) if not torch.equal(one, pushed[place])]
    scale = float(scaler.get_scale())
    halved = None if scale == SCALES[1] / 2 else f"expected {SCALES[1] / 2:g}, got {scale:g}"
    found = [
        Comparison("parameters that a regular step moves", 0, 0, len(trained), None if trained else "none is moved"),
        _none_of("parameters that a step with an overflow moves", moved, len(after)),
        _none_of("momenta that a step with an overflow changes", changed, len(momentum)),
        Comparison("scale after an overflow", abs(scale / SCALES[1] - 0.5), 0, 1, halved),
    ]
    return judge("training-overflow", BATCH, found)


def _scaled_step(
    port: TrainingPort, case: Case, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, factor: float
) -> None:
    """Take a step with scaled losses; a factor that no gradient of 32 bits holds makes it overflow."""
    port.model.zero_grad(set_to_none=True)
    total = torch.stack(list(port.step(case).losses.values())).sum()
    scaler.scale(total * factor * factor).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    scaler.update()


def _state(port: TrainingPort) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in port.model.state_dict().items()}


def _momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [state["momentum_buffer"].clone() for state in optimizer.state.values() if "momentum_buffer" in state]


def _none_of(what: str, found: Sequence[object], count: int) -> Comparison:
    return Comparison(what, float(len(found)), 0, count, f"{len(found)} of {count}" if found else None)
