"""Diagnosis of a training whose rung is wrong: each known mistake of a training, tried on the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.centernet2.port import TrainingPort
from harness.centernet2.rungs import Rung, Values, fed_clipped, fed_parameters
from harness.checks.comparison import Comparison
from harness.checks.training.rungs import compare_rung
from harness.faults.training import TRAINING_FAULTS, TrainingFault
from harness.report.records import Diagnosis
from harness.run.training import dumped
from harness.run.training.session import CASES, REFERENCE, TrainingSession

NEAR = 2.0
"""An explanation that leaves at most this multiple of what the best one leaves is as good."""
EXACT = 1e-3
"""Share of what is allowed below which differences of explanations say nothing."""


@dataclass(frozen=True)
class _Tried:
    """A mistake, and how near the reference with it comes: the largest measured over allowed."""

    fault: TrainingFault
    left: float


Predict = Callable[[TrainingPort], Iterable[Comparison]]
"""From a port to the comparisons of what was found with what the port gives, the telling ones first."""


def diagnose_rung(session: TrainingSession, name: str, rung: Rung) -> list[Diagnosis]:
    """Find the known mistakes that explain a rung that is wrong by itself.

    Args:
        session: Model, batches, devices.
        name: Of the device, or of the dumps.
        rung: That deviates.

    Returns:
        One answer a mistake; several where they look alike on these batches, none but "unknown" where none fits.
    """
    if session.dumps:
        return _answers(session, rung, dumped.predictions(session, rung))
    if rung in ("clipped", "parameters"):
        return _answers(session, rung, lambda port: _of_solver(session, name, rung, port))
    cases = _telling(session, name, rung)
    return _answers(session, rung, lambda port: _compared(session, name, rung, cases, port))


def _compared(
    session: TrainingSession, name: str, rung: Rung, cases: Sequence[str], port: TrainingPort
) -> Iterator[Comparison]:
    precision = session.options.precision
    for case in cases:
        values = session.fed(port, rung, case)
        got = session.values(name, precision, rung, case)
        yield from compare_rung(rung, session.basis(rung, case), got, values).comparisons


def _of_solver(session: TrainingSession, name: str, rung: Rung, port: TrainingPort) -> Iterator[Comparison]:
    gradients = session.gradients()
    clipped = fed_clipped(session.reference, gradients)

    def run(some: TrainingPort) -> Values:
        return fed_clipped(some, gradients) if rung == "clipped" else fed_parameters(some, clipped)

    basis = session.basis(rung, CASES[0])
    yield from compare_rung(rung, basis, run(session.port(name)), run(port)).comparisons


def _telling(session: TrainingSession, name: str, rung: Rung) -> list[str]:
    """Return the batches, those first on which the rung deviates."""

    def deviates(case: str) -> bool:
        got = session.values(name, session.options.precision, rung, case)
        expected = session.values(REFERENCE, "fp32", rung, case)
        found = compare_rung(rung, session.basis(rung, case), got, expected).comparisons
        return any(one.problem is not None for one in found)

    return sorted(session.cases_of(rung), key=lambda case: not deviates(case))


def _answers(session: TrainingSession, rung: Rung, predict: Predict) -> list[Diagnosis]:
    stage = f"training-{rung}"
    # A mistake in this rung comes before one whose trace in it is only carried along, such as in the gradients.
    own = [fault for fault in TRAINING_FAULTS if fault.rung == rung]
    others = [fault for fault in TRAINING_FAULTS if fault.rung != rung]
    for candidates in (own, others):
        tried = [one for fault in candidates if (one := _tried(session, fault, predict)) is not None]
        if tried:
            best = min(one.left for one in tried)
            good = sorted((one for one in tried if one.left <= max(EXACT, NEAR * best)), key=lambda one: one.left)
            return [
                Diagnosis(faults=(one.fault.id,), residual=one.left, confidence=1 / len(good), stage=stage)
                for one in good
            ]
    return [Diagnosis(faults=(), residual=None, confidence=0.0, stage=stage)]


def _tried(session: TrainingSession, fault: TrainingFault, predict: Predict) -> _Tried | None:
    """Put a mistake into the reference; None as soon as something found is not what it gives."""
    left = 0.0
    for one in predict(session.faulty(fault.change)):
        if one.problem is not None:
            return None
        left = max(left, one.measured / one.allowed if one.allowed else one.measured)
    return _Tried(fault, left)
