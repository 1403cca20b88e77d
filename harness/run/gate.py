"""The gate of a session: an earlier results document, which the run is held to."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.baseline import Gated, check_matches, regressions, speeds_beside, uncompared, weights_known
from harness.report.baseline_speed import SLOWER_ALLOWED
from harness.report.records import Document, Run, Verdict
from harness.run.checked import Checked


def check_gate(session: Checked, earlier: Document | None) -> None:
    """Refuse a baseline that this run cannot be held to.

    Raises:
        HarnessError: See `check_matches`.
    """
    options = session.options
    if earlier is None or options.baseline is None:
        return
    gated = Gated(
        options.model,
        session.data.sha256,
        tuple((name, options.precision) for name in options.devices),
        options.batch_sizes,
        session.subject.weights_sha256,
        session.subject.onnx_sha256,
    )
    check_matches(earlier, options.baseline, gated, allow_other_weights=options.allow_other_weights)


def describe_gate(session: Checked, earlier: Document | None) -> list[str]:
    """Say in one line what the run is held to and what of that is not known; nothing without a baseline."""
    options = session.options
    if earlier is None:
        return []
    gated = {(run.device, run.precision) for run in earlier.runs}
    free = [name for name in options.devices if (name, options.precision) not in gated]
    notes = [f"baseline: {options.baseline}"]
    if not weights_known(earlier):
        notes.append("its weights are not known: the document is older than their hash")
    if options.allow_other_weights:
        notes.append("it may be of another training (--allow-other-weights)")
    if free:
        notes.append(f"it says nothing about {', '.join(free)}")
    return ["; ".join(notes)]


def held_to(earlier: Document | None, runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Hold runs to the baseline.

    Args:
        earlier: The baseline, if there is one.
        runs: As they came out.

    Returns:
        What is worse than it was, and the runs that the baseline turns out to say nothing about.
    """
    if earlier is None:
        return [], []
    return regressions(earlier, runs), uncompared(earlier, runs)


def speeds_held_to(
    session: Checked, earlier: Document | None, runs: Sequence[Run]
) -> tuple[list[str], list[str], Verdict | None]:
    """Hold measured speeds to the baseline's.

    Args:
        session: Of the run; its option ``--max-slowdown`` asks for a gate of speed.
        earlier: The baseline, if there is one.
        runs: As they came out.

    Returns:
        What is slower than allowed; what could not be told; and the verdict that the latter asks for, if any.
    """
    if earlier is None:
        return [], [], None
    asked = session.options.max_slowdown
    found = speeds_beside(earlier, runs, SLOWER_ALLOWED if asked is None else asked)
    open_ = list(found.open)
    if asked is not None and not (found.slower or found.open or found.kept or session.options.against):
        open_.append("--max-slowdown: no speed was measured that the baseline has as well: run -m perf, then and now")
    undecided = asked is not None and bool(open_)
    return [*found.slower], open_, "undecided" if undecided else None


def identified(document: Document, session: Checked) -> Document:
    """The document with the hashes of weights and ONNX, which a later gate compares."""
    subject = session.subject
    return document.model_copy(update={"weights_sha256": subject.weights_sha256, "onnx_sha256": subject.onnx_sha256})
