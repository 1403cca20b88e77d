"""AP of detections on the images of a run, and what it is held to: the reference's on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from harness.cards import AnyCard
from harness.cards.tolerances import Tolerance
from harness.checks.accuracy import Evidence, check_accuracy, impossible_scores
from harness.checks.bootstrap import Difference, paired_bootstrap
from harness.checks.breakdown import with_breakdown
from harness.checks.evaluate import Metrics, evaluate
from harness.checks.matching import Matches, match
from harness.checks.outcome import StageResult
from harness.checks.shown_faults import ShownFaults, show_faults
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.run.detected import Detected


class Scoring:
    """Scores of devices beside the reference's.

    Args:
        card: The contract of the model.
        dataset: The images with their truth; their files are not read.
        tolerance: Of the run's precision.
        reference: Gives the reference's detections of all of them.
        decided_by_ap: Whether AP alone decides, see `harness.checks.accuracy.Evidence`.
    """

    def __init__(
        self,
        card: AnyCard,
        dataset: Dataset,
        tolerance: Tolerance,
        reference: Callable[[], Detected],
        *,
        decided_by_ap: bool,
    ) -> None:
        self.card, self.dataset, self.tolerance, self.decided_by_ap = card, dataset, tolerance, decided_by_ap
        self._reference = reference

    def judge(
        self, batch_size: int, device: Detected, readings: Mapping[str, Results], *, is_reference: bool
    ) -> StageResult:
        """Hold the AP of a device to the reference's and to the floor, and break it down.

        Args:
            batch_size: Of the run.
            device: Its detections of all images.
            readings: Detections by other readings of what is not known about the device.
            is_reference: Whether the run is the reference itself.
        """
        results = device.results
        scores = (score for found in results.values() for score in found.scores)
        metrics = self.evaluate(results)
        result = check_accuracy(
            self.card,
            batch_size,
            metrics,
            self.reference_metrics.AP,
            None if is_reference else self.difference(results),
            self.tolerance,
            {one: self.evaluate(found).AP for one, found in readings.items()},
            Evidence(self.shown_faults, self.decided_by_ap, impossible_scores(scores)),
        )
        assert result.accuracy is not None
        noted = {"stored": device.stored, "reference_stored": self._reference().stored}
        result = replace(result, accuracy=result.accuracy.model_copy(update=noted))
        return with_breakdown(result, self.dataset.instances, metrics, self.reference_metrics)

    def evaluate(self, results: Results) -> Metrics:
        """AP of detections of all images."""
        return evaluate(self.dataset.instances, results, self.card.category_ids)

    @cached_property
    def reference_metrics(self) -> Metrics:
        """AP of the reference."""
        return self.evaluate(self._reference().results)

    @cached_property
    def shown_faults(self) -> ShownFaults:
        """Faults that the AP of the reference shows on these images."""
        return show_faults(self.card, self.dataset, self._reference().results)

    def difference(self, results: Results) -> Difference:
        """Loss of AP against the reference, with its interval over other images of the same kind."""
        return paired_bootstrap(self._matched(results), self._reference_matches)

    @cached_property
    def _reference_matches(self) -> Matches:
        return self._matched(self._reference().results)

    def _matched(self, results: Results) -> Matches:
        return match(self.dataset.instances, results, self.card.category_ids)
