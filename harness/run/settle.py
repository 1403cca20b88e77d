"""A stage of a device held to the known failure that speaks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.cards.expectations import Expectation
from harness.checks.expectations import contradiction, excused
from harness.checks.outcome import StageResult
from harness.report.records import Diagnosis, Stage
from harness.run.diagnose import failure_text


@dataclass(frozen=True, slots=True)
class Settled:
    """Outcome of a stage and of its expectation.

    Attributes:
        stage: As the document has it.
        diagnosis: Known mistakes that explain a stage that is not green.
        text: Message of a failure that nothing excuses; empty where there is none.
        against: What contradicts the expectation; None where nothing does.
    """

    stage: Stage
    diagnosis: tuple[Diagnosis, ...]
    text: str
    against: str | None


def settle(
    result: StageResult,
    entry: Expectation | None,
    diagnose: Callable[[], Sequence[Diagnosis]],
    device: str,
    precision: str,
    *,
    is_part: bool = False,
) -> Settled:
    """Hold the outcome of a stage to an expectation.

    Args:
        result: Of the stage.
        entry: The known failure that speaks of it, if any.
        diagnose: Explains a stage that is not green; called for such a one.
        device: Name, for the message.
        precision: Of the run, for the message.
        is_part: Whether the run is a shard: what does not fail in one part may fail in another, so that nothing is
            contradicted before all are merged.
    """
    failed_in = None if result.is_green else result.stage.name
    as_expected = entry is not None and contradiction(entry, failed_in) is None
    stage = excused(result.stage, entry) if entry is not None and as_expected else result.stage
    found, text = tuple[Diagnosis, ...](), ""
    if not result.is_green:
        found = tuple(diagnose())
        text = failure_text(result, found, device, precision)
    against = None if entry is None or is_part else contradiction(entry, failed_in, text)
    return Settled(stage, found, "" if as_expected or against is not None else text, against)
