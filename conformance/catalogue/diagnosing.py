"""Diagnosis of ports as the suite makes it where heads or detections deviate."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from conformance.catalogue.cases import Case, make_images, rows_of_port
from harness.cards.schema import read_toml
from harness.centernet.preprocess import place
from harness.checks.margins import Margins
from harness.faults import CATALOGUE, AnyFault, PortSpec
from harness.faults.diagnosis.evidence import Evidence, HeadsEvidence, RowsEvidence
from harness.faults.diagnosis.explanation import Explanation
from harness.faults.diagnosis.predict import Chain
from harness.faults.diagnosis.search import Search
from harness.faults.port import Port, TorchRunner
from harness.faults.stages.results import Rows
from harness.run.reference import Reference

BATCH = 4
PAIRS = Path(__file__).parent / "pairs.toml"
SHOWING = 1.0
"""Mean deviation, in units of what may differ, below which a port of its precision hardly shows a mistake."""


class PortDiagnosis:
    """Diagnosis of ports of one model at one precision.

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
        """Limits of the difference, by image and head."""
        golden = Reference(self.case.subject, self.precision)
        inputs = [array for array, _ in self.case.port(PortSpec()).inputs(self.images)]
        return [golden.allowed(array[None], golden.heads(array[None])) for array in inputs]

    def port(self, spec: PortSpec) -> Port:
        """Make a port of this model."""
        return self.case.port(spec, half=self.half, batch_size=BATCH)

    def evidence(self, spec: PortSpec) -> Evidence:
        """Take the results file of a port that is wrong from decoding on, else its heads."""
        port, right = self.port(spec), PortSpec()
        if (spec.decode, spec.results) == (right.decode, right.results):
            return self.of_heads(port.heads(self.images))
        return self.of_rows(rows_of_port(port, self.dataset))

    def of_heads(self, heads: Sequence[Any]) -> Evidence:
        """Take heads that any program gave."""
        return HeadsEvidence(list(heads), self.allowed)

    def of_rows(self, rows: Rows) -> Evidence:
        """Take a results file that any program wrote."""
        card, sizes = self.case.card, [self.dataset.size(image_id) for image_id in self.dataset.image_ids]
        of_image = [Margins.of_rows(card, a, place(card, s)) for a, s in zip(self.allowed, sizes, strict=True)]
        by_image = [[row for row in rows if row["image_id"] == image_id] for image_id in self.dataset.image_ids]
        return RowsEvidence(by_image, of_image)

    def search(self, evidence: Evidence, without: Sequence[AnyFault] = ()) -> Search:
        """Make a search over the catalogue."""
        card, runner = self.case.card, TorchRunner(self.case.card, self.case.module)
        chain = Chain(card, runner, self.images, self.dataset.image_ids, BATCH)
        known = [fault for fault in CATALOGUE if fault not in without]
        return Search(chain, evidence, self.setting, known)

    def explain(self, evidence: Evidence, without: Sequence[AnyFault] = ()) -> list[Explanation]:
        """Answers, best first; none where the evidence does not deviate."""
        return self.search(evidence, without).explain()

    def shows(self, evidence: Evidence) -> bool:
        """Tell whether the evidence deviates by more than precision explains."""
        right = self.search(evidence).right
        return any(one.deviates and one.worst >= SHOWING for one in right)

    def faults(self) -> list[AnyFault]:
        """List the faults that show in heads or results of this model."""
        return [f for f in CATALOGUE if f.stage not in ("evaluate", "speed") and f.applies(self.setting)]

    def pairs(self) -> list[tuple[AnyFault, AnyFault]]:
        """Read the pairs of faults that were drawn for this precision."""
        known = {fault.id: fault for fault in CATALOGUE}
        return [(known[one], known[other]) for one, other in read_toml(PAIRS)[self.precision]]


def named(found: Sequence[Explanation]) -> list[frozenset[str]]:
    """Take the ids of each answer."""
    return [frozenset(fault.id for fault in one.faults) for one in found]
