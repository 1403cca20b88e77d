"""Shard of a run: what each stage compared in it, kept for the merging of all shards."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cache import content_key
from harness.cards import AnyCard, ModelCard, TwoStageCard
from harness.checks.outcome import StageResult, not_applicable
from harness.data.detections import Results
from harness.errors import HarnessError
from harness.files import whole_file
from harness.report.part import About, Compared, Found, Judged, PartFile, part_path, write_part
from harness.report.records import Document, Message, Part, Trouble
from harness.run.checked import Checked
from harness.run.ingredients import own_code
from harness.run.reference import GOLDEN
from harness.run.session import Session


def keep(session: Session, name: str, result: StageResult, readings: Sequence[str] = ()) -> StageResult:
    """Keep what a stage compared in a shard; return the outcome as the shard reports it.

    A part in which there was nothing to compare is no failure: the other parts may have it.

    Args:
        session: Of the shard.
        name: Of the device.
        result: Outcome in this part.
        readings: See `Compared`.
    """
    stage = result.stage
    kept = Compared(device=name, stage=stage, comparisons=result.comparisons, readings=tuple(readings))
    key = content_key({"of": (name, stage.name, stage.batch_size)})
    with whole_file(session.shared / f"compared-{key}.json") as partial:
        partial.write_text(kept.model_dump_json(), encoding="utf-8")
    nothing = stage.outcome == "failed" and all(one.problem is None for one in result.comparisons)
    return not_applicable(stage.name, stage.batch_size, "nothing to compare in this part") if nothing else result


def shard_of(session: Checked) -> str | None:
    """Return the name of the shard that a run is, such as ``2/5``; None of a whole run."""
    shard = session.options.shard if isinstance(session, Session) else None
    return None if shard is None else str(shard)


def with_part(document: Document, session: Checked, messages: Sequence[Message]) -> Document:
    """Write the companion of the document of a shard, and name it in the document; any other stays as it is.

    A shard that did not come to its end has none.

    Returns:
        The document; with the verdict `error` where the companion could not be written.
    """
    if not isinstance(session, Session) or shard_of(session) is None or document.verdict in ("error", "incomplete"):
        return document
    part = collect(session, document, messages)
    try:
        sha256 = write_part(part)
    except HarnessError as error:
        return document.model_copy(update={"problems": (*document.problems, str(error)), "verdict": "error"})
    shard, images = f"{part.about.index}/{part.about.of}", len(session.part_ids)
    return document.model_copy(update={"part": Part(shard=shard, images=images, file=part.file.name, sha256=sha256)})


def collect(session: Session, document: Document, messages: Sequence[Message]) -> PartFile:
    """Return all that merging needs of a shard that has ended.

    Args:
        session: Of the shard.
        document: Of the shard.
        messages: Reported by the checks.
    """
    options, card = session.options, session.card
    assert options.shard is not None
    assert options.results is not None
    files = sorted(session.shared.glob("compared-*.json"))
    compared = tuple(Compared.model_validate_json(file.read_bytes()) for file in files)
    found, results = _found(session, compared)
    devices = [
        Judged(name=name, card=device, expectations=options.expectations_of(device))
        for name in options.devices
        for device in [session.device(name).card]
    ]
    runs = [(name, size) for name in options.devices for size in options.batch_sizes]
    about = About(
        index=options.shard.index,
        of=options.shard.of,
        run=identity(session, devices),
        one_stage=card if isinstance(card, ModelCard) else None,
        two_stage=card if isinstance(card, TwoStageCard) else None,
        devices=tuple(devices),
        precision=options.precision,
        batch_sizes=options.batch_sizes,
        data=session.data,
        weights_sha256=session.subject.weights_sha256,
        onnx_sha256=session.subject.onnx_sha256,
        decided_by_ap=session.decided_by_ap,
        are_reference=tuple(run for run in runs if session.is_reference(*run)),
        runs=document.runs,
        environment=document.environment,
        instances=session.dataset.of(session.part_ids).instances,
        compared=compared,
        found=tuple(found),
        troubles=tuple(message for message in messages if isinstance(message, Trouble)),
    )
    return PartFile(about, tuple(results), part_path(options.results))


def identity(session: Session, devices: Sequence[Judged]) -> dict[str, str]:
    """Return what the shards of one run have in common, by name."""
    options = session.options
    assert options.shard is not None
    card: AnyCard = session.card
    entries = [[e.model_dump(mode="json", exclude={"file", "line"}) for e in one.expectations] for one in devices]
    return {
        "suite": own_code(),
        "number of parts": str(options.shard.of),
        "model card": content_key({"card": card.model_dump(mode="json")}),
        "weights": str(session.subject.weights_sha256),
        "ONNX": str(session.subject.onnx_sha256),
        "images": session.data.sha256,
        "devices": ", ".join(one.card.name for one in devices),
        "device cards": content_key({"cards": [one.card.model_dump(mode="json") for one in devices]}),
        "precision": options.precision,
        "batch sizes": ", ".join(map(str, options.batch_sizes)),
        "calibration images": str(options.calibration_images),
        "expectations": content_key({"entries": entries}),
    }


def _found(session: Session, compared: Sequence[Compared]) -> tuple[list[Found], list[Results]]:
    """Return the detections that the processes of the run have left, with their records."""
    readings = {(one.device, one.stage.batch_size): one.readings for one in compared if one.stage.name == "accuracy"}
    options, golden = session.options, (session.reference_name, session.reference_batch_size)
    found = [
        Found(device=name, batch_size=size, reading=reading)
        for name in options.devices
        for size in options.batch_sizes
        for reading in ("", *readings.get((name, size), ()))
        if session.has_run(name, size, reading=reading) and not session.is_reference(name, size)
    ]
    every = [session.detected(one.device, one.batch_size, reading=one.reading) for one in found]
    if session.has_run(*golden, GOLDEN):
        found.append(Found(device=golden[0], batch_size=golden[1], is_golden=True))
        every.append(session.detected(*golden, GOLDEN))
    noted = [one.model_copy(update={"stored": detected.stored}) for one, detected in zip(found, every, strict=True)]
    return noted, [detected.results for detected in every]
