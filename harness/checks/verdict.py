"""The verdict of a run from its stages, and of a document from its runs.

The first that applies: `error` (something given is missing or wrong), `deviates` (a stage failed), `incomplete` (a
stage that was owed did not run), `undecided` (not enough was compared), `part` (a shard, judged when merged),
`measured` (speed alone), `conforms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.checks.owed import GROUPS
from harness.errors import DeviceEndedError, HarnessError
from harness.report.records import AGAINST, Accuracy, Perf, Stage, Verdict

ORDER: tuple[Verdict, ...] = ("error", "deviates", "incomplete", "undecided", "part", "measured", "conforms")
"""Of several verdicts the first in this order holds."""
EXIT_STATUS: dict[Verdict, int] = {
    "error": 4, "deviates": 1, "incomplete": 1, "undecided": 1, "part": 0, "measured": 0, "conforms": 0,
}  # fmt: skip
SPEED_STAGES = ("speed", *GROUPS["perf"].values(), AGAINST)
"""Stages of the tests of speed, which alone give no verdict on accuracy."""


def verdict_of_run(
    stages: Sequence[Stage],
    accuracy: Sequence[Accuracy],
    perf: Sequence[Perf],
    beside: Iterable[Verdict] = (),
    *,
    is_part: bool = False,
) -> Verdict:
    """The verdict on one device.

    Args:
        stages: All that were reported.
        accuracy: The APs that were measured.
        perf: The speeds that were measured.
        beside: Of what went wrong on this device, or on all, beside the stages.
        is_part: Whether the run is a shard, which is judged when all are merged.
    """
    outcomes = {stage.outcome for stage in stages}
    found = [*beside, "part" if is_part else _of_comparisons(stages, accuracy, perf)]
    found += ["deviates"] if "failed" in outcomes else []
    found += ["undecided"] if "undecided" in outcomes else []
    return min(found, key=ORDER.index)


def _of_comparisons(stages: Sequence[Stage], accuracy: Sequence[Accuracy], perf: Sequence[Perf]) -> Verdict:
    """The best verdict that what was compared can give."""
    compared = any(stage.comparisons for stage in stages)
    if not accuracy and all(stage.name in SPEED_STAGES for stage in stages):
        return "measured" if compared or perf else "undecided"
    return "conforms" if compared else "undecided"


def verdict_of_document(verdicts: Iterable[Verdict], beside: Iterable[Verdict] = ()) -> Verdict:
    """The verdict on all devices: the worst of theirs, or of what belongs to none of them.

    Args:
        verdicts: Of the runs, one a device; without any, nothing is decided.
        beside: Of what went wrong beside the runs.
    """
    return min([*(list(verdicts) or ["undecided"]), *beside], key=ORDER.index)


def verdict_of_exception(error: BaseException | None) -> Verdict:
    """The verdict where a test ended with an exception in place of an outcome.

    Something that the user gave is missing or wrong, or else the device, or what runs it, failed: its stage did not
    run.
    """
    return "error" if isinstance(error, HarnessError) and not isinstance(error, DeviceEndedError) else "incomplete"
