"""Comparison of the files of a port with the reference, from files to the results document."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.cards import ModelCard
from harness.checks.accuracy import Evidence, check_accuracy, impossible_scores
from harness.checks.bootstrap import paired_bootstrap
from harness.checks.breakdown import with_breakdown
from harness.checks.comparison import Comparison
from harness.checks.evaluate import evaluate, evaluate_records
from harness.checks.files import Judged, PortFiles, judge_files
from harness.checks.matching import match
from harness.checks.outcome import StageResult, judge
from harness.checks.shown_faults import show_faults
from harness.checks.verdict import verdict_of_run
from harness.data.dataset import Dataset
from harness.data.detections import Results
from harness.faults.diagnosis.files import diagnose_files
from harness.report.document import make_document
from harness.report.environment import environment
from harness.report.records import Data, Document, Run
from harness.run.reference import Reference
from harness.types import Detections, Progress

DEVICE = "files"
"""Name of the run in the document: files do not tell what made them."""

NOT_GIVEN = "not given: heads, detections, accuracy; inputs alone do not tell what the port computes from them"


def compare(
    golden: Reference, dataset: Dataset, data: Data, files: PortFiles, progress: Progress | None = None
) -> tuple[Judged, Document]:
    """Judge what a port wrote: every stage, the AP of its detections, and the mistakes that explain what deviates.

    Args:
        golden: The reference, at the precision that the port claims.
        dataset: The images that the port was run on.
        data: Their name and content hash, for the document.
        files: What the port wrote.
        progress: Told after every image that was judged.

    Returns:
        The comparisons by stage, and the document with one run of the execution `elsewhere`.

    Raises:
        HarnessError: A file is missing or damaged.
    """
    right = Results()
    judged = judge_files(golden, dataset, files, right, progress)
    results = [judge(stage, None, comparisons) for stage, comparisons in judged.items()]
    if files.results is not None:
        accuracy = _accuracy(golden, dataset, files, right)
        results.append(accuracy)
        judged["accuracy"] = list(accuracy.comparisons)
    stages = tuple(result.stage for result in results)
    measured = tuple(result.accuracy for result in results if result.accuracy is not None)
    verdict = verdict_of_run(stages, measured, ())
    lacking = verdict == "conforms" and not files.judges_outputs
    run = Run(
        device=DEVICE,
        execution="elsewhere",
        precision=golden.precision,
        verdict="incomplete" if lacking else verdict,
        stages=stages,
        accuracy=measured,
        diagnosis=tuple(diagnose_files(golden, dataset, files, judged)),
    )
    problems = [NOT_GIVEN] if lacking else []
    return judged, make_document(golden.subject.card.name, data, environment(), [run], problems)


def _accuracy(golden: Reference, dataset: Dataset, files: PortFiles, right: Results) -> StageResult:
    """Hold the AP of the port's rows to that of the reference's detections."""
    card, instances = golden.subject.card, dataset.instances
    foreign = _foreign(card, dataset, files)
    if foreign is not None:
        return judge("accuracy", None, [Comparison("AP", np.inf, golden.tolerance.ap_loss_allowed, 0, foreign)])
    assert files.results is not None
    metrics, reference = evaluate_records(instances, files.results), evaluate(instances, right, card.category_ids)
    of_port = Results()
    for image_id, found in _by_image(card, dataset, files):
        of_port.add(image_id, found)
    difference = paired_bootstrap(
        match(instances, of_port, card.category_ids), match(instances, right, card.category_ids)
    )
    scores = impossible_scores(float(row["score"]) for row in files.results)
    evidence = Evidence(show_faults(card, dataset, right), golden.decided_by_ap, scores)
    result = check_accuracy(card, None, metrics, reference.AP, difference, golden.tolerance, {}, evidence)
    return with_breakdown(result, instances, metrics, reference)


def _foreign(card: ModelCard, dataset: Dataset, files: PortFiles) -> str | None:
    """Say which rows have no AP: of images or categories that the data set or the model does not have."""
    assert files.results is not None
    images = files.by_image.keys() - set(dataset.image_ids)
    known = {category.id for category in dataset.instances.categories} & set(card.category_ids)
    categories = {int(row["category_id"]) for row in files.results} - known
    if images:
        return f"{len(images)} images of the results are not of the data set"
    return f"{len(categories)} categories of the results are not of the model" if categories else None


def _by_image(card: ModelCard, dataset: Dataset, files: PortFiles) -> Iterator[tuple[int, Detections]]:
    """The port's rows as detections in image pixels, best first."""
    place = {category: index for index, category in enumerate(card.category_ids)}
    for image_id in dataset.image_ids:
        rows = sorted(files.by_image.get(image_id, []), key=lambda row: -float(row["score"]))
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.array([row["score"] for row in rows], np.float32)
        classes = np.array([place[int(row["category_id"])] for row in rows], np.int64)
        yield image_id, Detections(boxes.astype(np.float32), scores, classes)
