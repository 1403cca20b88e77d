"""The verdict of a run from its stages, and of a document from its runs.

The first that applies: `error` (something given is missing or wrong), `deviates` (a stage failed), `incomplete` (the
session ended early), `undecided` (not enough was compared), `part` (a shard, judged when merged), `measured` (speed
alone), `conforms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.records import Accuracy, Perf, Stage, Verdict

ORDER: tuple[Verdict, ...] = ("error", "deviates", "incomplete", "undecided", "part", "measured", "conforms")
"""Of several verdicts the first in this order holds."""
EXIT_STATUS: dict[Verdict, int] = {
    "error": 4, "deviates": 1, "incomplete": 1, "undecided": 1, "part": 0, "measured": 0, "conforms": 0,
}  # fmt: skip
SPEED_STAGES = ("speed", "perf", "estimate", "stated speed", "harness-overhead", "pipeline")
"""Stages of the tests of speed, which alone give no verdict on accuracy."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Things that went wrong in a session beside the outcomes of its stages.

    Attributes:
        error: A device, tool, file or option is missing or wrong.
        failed: Something failed that no stage tells of.
        interrupted: The session ended before every test had run.
    """

    error: bool = False
    failed: bool = False
    interrupted: bool = False


def verdict_of_run(
    stages: Sequence[Stage], accuracy: Sequence[Accuracy], perf: Sequence[Perf], around: Circumstances
) -> Verdict:
    """The verdict on one device.

    Args:
        stages: All that were reported.
        accuracy: The APs that were measured.
        perf: The speeds that were measured.
        around: What went wrong on this device, or on all, beside the stages.
    """
    outcomes = {stage.outcome for stage in stages}
    if around.error:
        return "error"
    if "failed" in outcomes:
        return "deviates"
    if around.interrupted:
        return "incomplete"
    if "undecided" in outcomes or around.failed:
        return "undecided"
    compared = any(stage.comparisons for stage in stages)
    if not accuracy and all(stage.name in SPEED_STAGES for stage in stages):
        return "measured" if compared or perf else "undecided"
    return "conforms" if compared else "undecided"


def verdict_of_document(verdicts: Iterable[Verdict], around: Circumstances) -> Verdict:
    """The verdict on all devices: the worst of theirs, or of what went wrong around them.

    Args:
        verdicts: Of the runs, one a device; without any, nothing is decided.
        around: What went wrong in the session; a test that failed deviates.
    """
    found = list(verdicts) or ["undecided"]
    found += ["error"] if around.error else []
    found += ["deviates"] if around.failed else []
    found += ["incomplete"] if around.interrupted else []
    return min(found, key=ORDER.index)
