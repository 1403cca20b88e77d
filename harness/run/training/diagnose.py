"""Diagnosis of a training whose rung is wrong: each known mistake of a training, tried on the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

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


Predict = Callable[[TrainingPort], Iterable[Comparison]]
"""From a port to the comparisons of what was found with what the port gives, the telling ones first."""


def diagnose_rung(session: TrainingSession, name: str, rung: Rung) -> list[Diagnosis]:
    """Find the known mistakes that explain a rung that is wrong by itself.

    Args:
        session: Model, batches, devices.
        name: Of the device, or of the dumps.
        rung: That deviates.

    Returns:
        One answer a mistake; several where they look alike on these batches, none but "unknown" where none fits. Where
        those that explain earlier rungs explain this one, too, they are its answer.
    """
    if session.dumps:
        return _answers(session, name, rung, dumped.predictions(session, rung))
    if rung in ("clipped", "parameters"):
        return _answers(session, name, rung, lambda port: _of_solver(session, name, rung, port))
    cases = _telling(session, name, rung)
    return _answers(session, name, rung, lambda port: _compared(session, name, rung, cases, port))


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


def _answers(session: TrainingSession, name: str, rung: Rung, predict: Predict) -> list[Diagnosis]:
    """Try each mistake, together with those that earlier rungs have been explained by."""
    stage, known = f"training-{rung}", session.explained.setdefault(name, [])
    if known and (carried := _left(session, known, predict)) is not None:
        return [Diagnosis(faults=tuple(one.id for one in known), residual=carried, confidence=1.0, stage=stage)]
    # A mistake in this rung comes before one whose trace in it is only carried along, such as in the gradients.
    own = [fault for fault in TRAINING_FAULTS if fault.rung == rung]
    others = [fault for fault in TRAINING_FAULTS if fault.rung != rung and fault not in known]
    for candidates in (own, others):
        tried = [
            (left, fault) for fault in candidates if (left := _left(session, [*known, fault], predict)) is not None
        ]
        if tried:
            limit = max(EXACT, NEAR * min(left for left, _ in tried))
            good = sorted(((left, fault) for left, fault in tried if left <= limit), key=lambda one: one[0])
            known += [good[0][1]] if len(good) == 1 else []
            return [
                Diagnosis(faults=(fault.id,), residual=left, confidence=1 / len(good), stage=stage)
                for left, fault in good
            ]
    return [Diagnosis(faults=(), residual=None, confidence=0.0, stage=stage)]


def _left(session: TrainingSession, faults: Sequence[TrainingFault], predict: Predict) -> float | None:
    """Put mistakes into the reference; return how near it then comes, the largest measured over allowed.

    None as soon as something that was found is not what it gives.
    """
    left = 0.0
    for one in predict(session.faulty(*(fault.change for fault in faults))):
        if one.problem is not None:
            return None
        left = max(left, one.measured / one.allowed if one.allowed else one.measured)
    return left
