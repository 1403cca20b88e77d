"""Brings ports to the diagnosis, as the suite does where heads or detections deviate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from conformance.catalogue.fault_world import Case, make_images, rows_of_port
from harness.centernet.preprocess import place
from harness.checks.files import Golden
from harness.checks.margins import Margins
from harness.faults import CATALOGUE, Fault, Forms
from harness.faults.diagnosis.evidence import Evidence, HeadsEvidence, RowsEvidence
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import Diagnosis
from harness.faults.port import Port, TorchRunner
from harness.faults.writing import Rows

BATCH = 4
SECONDS = 120.0
"""Never reached on a quiet machine: what a diagnosis finds here must not hang on how fast it is."""
MOST_PAIRS = 40_000
LATE = ("decode", "results")
SHOWING = 1.0
"""Mean deviation, in units of what may differ, below which a port of its precision hardly shows a mistake."""


class Clinic:
    """The diagnosis of ports of one model at one precision.

    Args:
        case: The model.
        root: An empty folder.
        half: The ports compute in float16, and say so.
    """

    def __init__(self, case: Case, root: Path, *, half: bool = False) -> None:
        self.case, self.half = case, half
        self.precision = "fp16" if half else "fp32"
        self.dataset = make_images(root / "coco")
        self.images = [self.dataset.read_image(image_id) for image_id in self.dataset.image_ids]
        self.setting = case.setting(self.precision, BATCH)

    @cached_property
    def allowed(self) -> list[dict[str, float]]:
        """By image and head."""
        golden = Golden(self.case.subject, self.precision)
        inputs = [array for array, _ in self.case.port(Forms()).inputs(self.images)]
        return [golden.allowed(array[None], golden.heads(array[None])) for array in inputs]

    def port(self, forms: Forms) -> Port:
        """A port of this model."""
        return self.case.port(forms, half=self.half, batch_size=BATCH)

    def evidence(self, forms: Forms) -> Evidence:
        """What a port gives: its results file where it is wrong from decoding on, else its heads."""
        port, right = self.port(forms), Forms()
        if (forms.decode, forms.write) == (right.decode, right.write):
            return self.of_heads(port.heads(self.images))
        return self.of_rows(rows_of_port(port, self.dataset))

    def of_heads(self, heads: Sequence[Any]) -> Evidence:
        """Heads that any program gave."""
        return HeadsEvidence(list(heads), self.allowed)

    def of_rows(self, rows: Rows) -> Evidence:
        """A results file that any program wrote."""
        card, sizes = self.case.card, [self.dataset.size(image_id) for image_id in self.dataset.image_ids]
        of_image = [Margins.of_rows(card, a, place(card, s)) for a, s in zip(self.allowed, sizes, strict=True)]
        margins = [(margin.score, 2 * margin.corner) for margin in of_image]  # a width moves by two corners
        by_image = [[row for row in rows if row["image_id"] == image_id] for image_id in self.dataset.image_ids]
        return RowsEvidence(by_image, margins)

    def diagnosis(self, evidence: Evidence, without: Sequence[Fault] = ()) -> Diagnosis:
        """A search over the catalogue."""
        chain = Chain(self.case.card, TorchRunner(self.case.card, self.case.module), self.images,
                      self.dataset.image_ids, BATCH)  # fmt: skip
        known = [fault for fault in CATALOGUE if fault not in without]
        return Diagnosis(chain, evidence, self.setting, known, SECONDS, MOST_PAIRS)

    def explain(self, evidence: Evidence, without: Sequence[Fault] = ()) -> list[Explanation]:
        """Answers, best first; none where the evidence does not deviate."""
        return self.diagnosis(evidence, without).explain()

    def shows(self, evidence: Evidence) -> bool:
        """Whether the evidence deviates by more than precision explains."""
        right = self.diagnosis(evidence).right
        return any(one.deviates and one.worst >= SHOWING for one in right)

    def faults(self) -> list[Fault]:
        """Those that heads or results of this model can have."""
        return [f for f in CATALOGUE if f.stage not in ("evaluate", "perf") and f.applies(self.setting)]

    def pairs(self, count: int, seed: int) -> list[tuple[Fault, Fault]]:
        """Two that can be made together and that show in one kind of evidence, drawn at random."""
        from harness.faults import compatible

        found = [pair for pair in itertools.combinations(self.faults(), 2) if compatible(pair)]
        random = np.random.default_rng(seed)
        return [found[i] for i in random.permutation(len(found))[:count]]


def named(found: Sequence[Explanation]) -> list[frozenset[str]]:
    """The ids of each answer."""
    return [frozenset(fault.id for fault in one.faults) for one in found]
