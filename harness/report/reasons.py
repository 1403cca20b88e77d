"""Why a run has its verdict, in sentences, and the order in which its stages are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.centernet2.rungs import RUNGS
from harness.report.escape import printable
from harness.report.records import Document, Outcome, Run, Stage

ORDER = (
    "contract", "conversion", "inputs", "heads", "detections", "batch", "accuracy",
    *(f"training-{rung}" for rung in RUNGS),
)  # fmt: skip
"""Stages of a device in the order of the pipeline, and those of a training in that of a step."""
TOLD: tuple[Outcome, ...] = ("failed", "undecided", "expected-failure")
"""Outcomes that are told on the first screen, the worst first."""
MOST_ANNOTATIONS = 10
"""Errors of a step that GitHub shows."""


def stored_lines(run: Run) -> list[str]:
    """Images whose outputs an earlier run computed: by batch size of the device, and of the reference."""
    lines = [
        f"batch size {ap.batch_size}: outputs of {ap.stored.images} of {ap.images} images are stored ones, "
        f"from {ap.stored.since} on"
        for ap in run.accuracy
        if ap.stored is not None
    ]
    for ap in run.accuracy:
        if ap.reference_stored is not None:
            of = ap.reference_stored
            return [
                *lines,
                f"reference: outputs of {of.images} of {ap.images} images are stored ones, from {of.since} on",
            ]
    return lines


def images_of(document: Document) -> str:
    """Name the images of a document and say how many there are, and which part of them a shard has."""
    data, part = document.data, document.part
    if data is None:
        return "no data"
    if part is None:
        return f"{data.name} ({data.images} images)"
    return f"{data.name} ({part.images} of {data.images} images, shard {part.shard})"


def device_name(run: Run) -> str:
    """Name the device; anything but silicon is said beside every figure."""
    return run.device if run.execution == "silicon" else f"{run.device} ({run.execution})"


def reasons(document: Document) -> list[str]:
    """Say why a document has its verdict: what failed first, then what is open, then what went wrong beside it."""
    sizes: dict[tuple[str, str, str], list[int | None]] = {}
    for outcome in TOLD:
        for run in document.runs:
            for stage in sorted(run.stages, key=place):
                if stage.outcome == outcome:
                    of = f"{device_name(run)} {run.precision}: {stage.name}"
                    sizes.setdefault((of, outcome_text(stage), _detail(stage)), []).append(stage.batch_size)
    found = [f"{of}{_at(some)} {outcome}{detail}" for (of, outcome, detail), some in sizes.items()]
    return found + list(document.problems)


def place(stage: Stage) -> tuple[int, str]:
    """Return the place of a stage among the others, to sort by: that of the pipeline, or of a step of training."""
    return ORDER.index(stage.name) if stage.name in ORDER else len(ORDER), stage.name


def _at(sizes: Sequence[int | None]) -> str:
    known = [str(size) for size in sizes if size is not None]
    return f" at batch size{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else ""


def _detail(stage: Stage) -> str:
    first = (stage.detail or "").splitlines()[:1]
    return f": {first[0]}" if first else ""


def outcome_text(stage: Stage) -> str:
    """Say how a stage came out, in words that go into a sentence."""
    return stage.outcome.replace("-", " ")


def workflow_commands(document: Document) -> Iterator[str]:
    """Yield the commands by which GitHub Actions shows why a run is not green, one line each."""
    if document.verdict in ("deviates", "undecided", "incomplete", "error"):
        for reason in reasons(document)[:MOST_ANNOTATIONS]:
            yield f"::error title=conformance {document.verdict}::{printable(reason).replace('%', '%25')}"
