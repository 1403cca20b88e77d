"""Stages of accuracy of a two-stage detector, where they are others than those of a one-stage model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.cards import TwoStageCard
from harness.cards.tolerances import DetectionTolerance
from harness.centernet2.inference import check_contract, place, preprocess
from harness.checks.comparison import Comparison
from harness.checks.outcome import StageResult, judge, not_applicable
from harness.checks.two_stage import close_calls, differs, judge_rows, margins_of
from harness.devices.artifact import Artifact
from harness.run.every_image import EVERY
from harness.run.session import Session


def two_stage_contract(artifact: Artifact, batch_size: int) -> StageResult:
    """Contract: the artifact has the inputs and outputs of a two-stage detector.

    Raises:
        HarnessError: It has not, or the batch size does not fit.
    """
    check_contract(artifact, batch_size)
    count = len(artifact.inputs) + len(artifact.outputs)
    return judge("contract", batch_size, [Comparison("inputs and outputs", 0, 0, count)])


def two_stage_decisions(session: Session, name: str, batch_size: int) -> StageResult:
    """Decisions: the detections of every image equal the reference's as sets, but for close calls.

    The reference itself is held to its second opinion on the sample images.
    """
    allowed = session.tolerance.detections
    if allowed is None:
        return not_applicable("detections", batch_size, "no tolerance of detections at this precision")
    is_reference = session.is_reference(name, batch_size)
    results = session.detections(name, batch_size)
    samples = [image_id for image_id in session.sample_ids if image_id in results]
    doubtful = samples if is_reference else _standing_out(session, name, batch_size, allowed)
    judged = list[Comparison]()
    for image_id in doubtful:
        judged.append(_judge(session, name, batch_size, image_id, allowed, exact=is_reference))
        if judged[-1].problem is not None:
            break
    rows = sum(len(found) for found in results.values())
    every = Comparison(EVERY, 0.0, 0.0, rows, images=len(results))
    return judge("detections", batch_size, judged if is_reference else [every, *judged])


def _standing_out(session: Session, name: str, batch_size: int, allowed: DetectionTolerance) -> Iterable[int]:
    """Name the images whose detections are not those of the reference, so that close calls are looked for."""
    card = session.card
    assert isinstance(card, TwoStageCard)
    results = session.detections(name, batch_size)
    golden = session.reference_results
    for image_id, found in results.items():
        margins = margins_of(allowed, place(card, session.dataset.size(image_id)))
        if differs(card, found, golden[image_id], margins):
            yield image_id


def _judge(
    session: Session, name: str, batch_size: int, image_id: int, allowed: DetectionTolerance, *, exact: bool
) -> Comparison:
    """Hold the detections of one image to the reference's."""
    card = session.card
    assert isinstance(card, TwoStageCard)
    pixels, placement = preprocess(card, session.dataset.read_image(image_id))
    reference = session.two_stage
    settings = reference.subject.module.settings.detections
    calls = close_calls(settings, reference.candidates(pixels, allowed, exact=exact), allowed)
    found = session.detections(name, batch_size)[image_id]
    margins = margins_of(allowed, placement)
    judged = judge_rows(card, found, calls, placement, margins, f"image {image_id}")
    return replace(judged, close=len(calls.may) - len(calls.must))
