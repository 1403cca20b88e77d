"""AP of detections on the images of a run, and what it is held to: the reference's on the same images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from harness.cards import AnyCard
from harness.checks.bootstrap import Difference, paired_bootstrap
from harness.checks.evaluate import Metrics, evaluate
from harness.checks.matching import Matches, match
from harness.checks.shown_faults import ShownFaults, show_faults
from harness.data.dataset import Dataset
from harness.data.detections import Results


class Scoring:
    """Scores of devices beside the reference's.

    Args:
        card: The contract of the model.
        dataset: The images with their truth; their files are not read.
        reference: Gives the reference's detections of all of them.
    """

    def __init__(self, card: AnyCard, dataset: Dataset, reference: Callable[[], Results]) -> None:
        self.card, self.dataset = card, dataset
        self._reference = reference

    def evaluate(self, results: Results) -> Metrics:
        """AP of detections of all images."""
        return evaluate(self.dataset.instances, results, self.card.category_ids)

    @cached_property
    def reference_metrics(self) -> Metrics:
        """AP of the reference."""
        return self.evaluate(self._reference())

    @cached_property
    def shown_faults(self) -> ShownFaults:
        """Faults that the AP of the reference shows on these images."""
        return show_faults(self.card, self.dataset, self._reference())

    def difference(self, results: Results) -> Difference:
        """Loss of AP against the reference, with its interval over other images of the same kind."""
        return paired_bootstrap(self._matched(results), self._reference_matches)

    @cached_property
    def _reference_matches(self) -> Matches:
        return self._matched(self._reference())

    def _matched(self, results: Results) -> Matches:
        return match(self.dataset.instances, results, self.card.category_ids)
