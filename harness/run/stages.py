"""Stages of the accuracy checks: each takes its values from a session and hands them to the check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import wraps

from harness.cards import TwoStageCard
from harness.centernet.decode import NonFiniteHeadError
from harness.centernet.heads import DeviceOutputError
from harness.checks.contract import check_artifact
from harness.checks.decisions import check_decisions
from harness.checks.heads import HeadPair, check_batch, check_heads
from harness.checks.outcome import StageResult, judged_outputs, not_applicable
from harness.report.records import Latency, Perf, course_of
from harness.run.every_image import judge_every_image
from harness.run.pairs import pairs, pairs_again, pairs_in_batch, pairs_in_run
from harness.run.part import keep
from harness.run.session import Session
from harness.run.speed import Timing
from harness.run.two_stage_stages import two_stage_contract, two_stage_decisions

StageCheck = Callable[[Session, str, int], StageResult]
"""From a session, the name of a device and a batch size to the outcome of a stage."""
UNTIL_MERGED = "AP is of all images: judged when the shards are merged"


def _kept(check: StageCheck) -> StageCheck:
    """Keep the outcome of a stage for the merging of shards, where the run is one."""

    @wraps(check)
    def kept(session: Session, name: str, batch_size: int) -> StageResult:
        result = check(session, name, batch_size)
        if session.options.shard is None:
            return result
        readings = session.readings(name, batch_size) if result.stage.name == "accuracy" else ()
        return keep(session, name, result, readings)

    return kept


@_kept
def contract(session: Session, name: str, batch_size: int) -> StageResult:
    """Contract: the artifact keeps the model card, and runs where it should.

    Raises:
        HarnessError: The device cannot take the model, or an input or output differs from the card.
    """
    artifact = session.artifact(name, batch_size)
    device = session.device(name).card
    if isinstance(session.card, TwoStageCard):
        return two_stage_contract(artifact, batch_size)
    return check_artifact(session.card, device, artifact, batch_size, session.subject.onnx)


@_kept
def heads(session: Session, name: str, batch_size: int) -> StageResult:
    """Heads: those of the sample images equal the reference's, alone, in the run over all images, and called again."""
    if isinstance(session.card, TwoStageCard):
        reason = "a two-stage detector gives no heads: its detections are compared"
        return not_applicable("heads", batch_size, reason)

    def check() -> StageResult:
        losses = {} if session.tolerance.derivable else session.artifact(name, batch_size).findings.losses
        again = _later(session, name, batch_size)
        return check_heads(batch_size, pairs(session, name, batch_size), session.tolerance, losses, again)

    return judged_outputs("heads", batch_size, check)


def _later(session: Session, name: str, batch_size: int) -> Iterator[HeadPair]:
    """Heads of later calls; those of a run over all images that cannot be judged are left to the stage of accuracy."""
    if session.tolerance.derivable and not session.has_run(name, batch_size):
        count = len(session.sample_ids)
        session.say(f"{name}, batch size {batch_size}: heads of {count} sample images are right; next: all images")
    with suppress(DeviceOutputError, NonFiniteHeadError):
        yield from pairs_in_run(session, name, batch_size)
    yield from pairs_again(session, name, batch_size)


@_kept
def batch(session: Session, name: str, batch_size: int) -> StageResult:
    """Batch: heads of a sample in a batch equal those of the sample alone."""
    if batch_size == 1:
        return not_applicable("batch", batch_size, "a batch of one is the sample alone")
    if isinstance(session.card, TwoStageCard):
        reason = "the detections of a batch are held to the reference's of each image"
        return not_applicable("batch", batch_size, reason)
    if session.artifact(name, batch_size).batch_size is not None:
        reason = "the model takes no other batch size; its samples are compared as heads"
        return not_applicable("batch", batch_size, reason)
    return judged_outputs(
        "batch", batch_size, lambda: check_batch(batch_size, pairs_in_batch(session, name, batch_size))
    )


@_kept
def decisions(session: Session, name: str, batch_size: int) -> StageResult:
    """Decisions: detections of every image equal the reference's, those of the sample images cell by cell."""
    if not session.tolerance.derivable:
        reason = "no tolerance of the heads to derive theirs from: the verdict is by AP"
        return not_applicable("detections", batch_size, reason)
    if isinstance(session.card, TwoStageCard):
        return judged_outputs("detections", batch_size, lambda: two_stage_decisions(session, name, batch_size))
    card = session.card
    return judged_outputs(
        "detections",
        batch_size,
        lambda: check_decisions(
            card,
            batch_size,
            pairs(session, name, batch_size),
            judge_every_image(session, name, batch_size),
        ),
    )


@_kept
def accuracy(session: Session, name: str, batch_size: int) -> StageResult:
    """Accuracy: the AP of all images equals the reference's on the same images; a shard only runs its images."""

    def check() -> StageResult:
        detected, names = session.detected(name, batch_size), session.readings(name, batch_size)
        readings = {one: session.detected(name, batch_size, reading=one).results for one in names}
        if session.options.shard is not None:
            _ = session.reference_detected
            return not_applicable("accuracy", batch_size, UNTIL_MERGED)
        is_reference = session.is_reference(name, batch_size)
        result = session.scoring.judge(batch_size, detected, readings, is_reference=is_reference)
        timing = detected.timing
        timed = session.device(name).card.reason_against("perf") is None and not session.options.workers
        return replace(result, perf=(end_to_end(batch_size, timing),)) if timing is not None and timed else result

    return judged_outputs("accuracy", batch_size, check)


def end_to_end(batch_size: int, timing: Timing) -> Perf:
    """Speed of an accuracy run, with all that happens in it."""
    interval = "end to end: read, preprocess, device, decode"
    latency = Latency.of(timing.latency_ms)
    return Perf(
        batch_size=batch_size,
        fps=timing.fps_end_to_end,
        latency_ms=latency,
        interval=interval,
        course_ms=course_of(timing.latency_ms),
    )
