"""A model held to an older one, or to a second device, by their times: what is compared, and the stage."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.cards import AnyCard, ModelCard
from harness.centernet.heads import check_contract
from harness.checks.outcome import StageResult, not_applicable
from harness.checks.slowdown import judge_slowdown
from harness.devices.artifact import Artifact
from harness.devices.base import Device, time_batches
from harness.devices.registry import device_names
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.report.records import AGAINST
from harness.run.alternate import time_alternately
from harness.run.pipeline import batches
from harness.run.subject import Subject
from harness.run.two_stage import TwoStageSubject, load_any_subject
from harness.types import Batch

if TYPE_CHECKING:  # which checks what this module names before it begins
    from harness.run.session import Session

WEIGHTS = (".pth", ".pt")
"""Endings of PyTorch weights; any other file is read as an ONNX."""


def is_device(old: str) -> bool:
    """Tell whether ``--against`` names a device that is installed; else it names a file."""
    return old in device_names()


def load_old_subject(card: AnyCard, file: Path) -> Subject | TwoStageSubject:
    """Load the model of a file of PyTorch weights or of an ONNX.

    Raises:
        HarnessError: The file is missing, damaged or not of this card.
    """
    weights = file.suffix in WEIGHTS
    return load_any_subject(card, file if weights else None, None if weights else file)


def check_against(session: Session) -> None:
    """Refuse what the devices of a run cannot be held to, before any work.

    Raises:
        HarnessError: The file is missing, damaged or of other inputs or outputs than the card; a device cannot run it;
            or the second device cannot run here, cannot run the model, or has no speed.
    """
    old = session.options.against
    if old is None:
        return
    if is_device(old):
        _check_device(session, old)
        return
    file = Path(old)
    if not file.exists():
        _refuse_unknown(old)
    with _told_of_the_old_model(file):
        if file.suffix in WEIGHTS:
            _ = session.old_subject
            return
        for name in session.options.devices:
            if session.device(name).card.dialect == "module":
                raise HarnessError(
                    f"device '{name}' runs the PyTorch network, and this is read as an ONNX",
                    remedy=f"give the old weights ({WEIGHTS[0]}), or check another device, such as onnxruntime",
                )
        stated = stated_by(load_onnx_checked(file))
        _ = session.old_subject
    if isinstance(session.card, ModelCard):
        with _told_of_the_old_model(file, "give an older model with the inputs and outputs of this card"):
            for batch_size in session.options.batch_sizes:
                check_contract(session.card, stated, batch_size, file)


def _refuse_unknown(old: str) -> NoReturn:
    known = device_names()
    near = difflib.get_close_matches(old, known, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    raise HarnessError(
        f"no such file, and no device of this name: '{old}'",
        field="--against",
        remedy=f"{meant}give an older ONNX or weights, or one of the devices {', '.join(known)}",
    )


@contextmanager
def _told_of_the_old_model(file: Path, remedy: str | None = None) -> Iterator[None]:
    """Say of an error in reading a model that the option which names the older one is at fault.

    Args:
        file: The older model.
        remedy: In place of that of the error.
    """
    try:
        yield
    except HarnessError as error:
        part = "" if error.field is None or error.field.startswith("--") else f"{error.field}: "
        cause = f"{part}{error.cause}"
        raise HarnessError(cause, file=file, field="--against", remedy=remedy or error.remedy) from error


def _check_device(session: Session, old: str) -> None:
    device, precision = session.device(old), session.options.precision
    other = "name another device, or an older model"
    try:
        device.check()
    except HarnessError as error:
        raise HarnessError(
            error.cause, file=error.file, field=f"--against {old}", remedy=f"run where it is, or {other}"
        ) from error
    reason = device.card.reason_against("perf")
    if reason is not None:
        raise HarnessError(f"device '{old}' has no speed: {reason}", field="--against", remedy=other)
    if precision not in device.card.precisions:
        raise HarnessError(
            f"device '{old}' has no precision '{precision}'",
            field="--against",
            remedy=f"give --precision {' or '.join(device.card.precisions)}, or {other}",
        )
    if device.card.dialect == "module" and isinstance(session.subject, Subject) and session.subject.module is None:
        cause = f"device '{old}' runs the PyTorch network, and only an ONNX was given"
        raise HarnessError(cause, field="--against", remedy=f"give --weights FILE, or {other}")


def against(session: Session, name: str, batch_size: int) -> StageResult:
    """Against: the model takes no longer than the old one, in the same process on the same images, call by call."""
    old = session.options.against
    assert old is not None
    reason = session.device(name).card.reason_against("perf")
    if name == old:
        reason = "this is the device that the others are held to"
    if reason is not None:
        return not_applicable(AGAINST, batch_size, reason)
    device, opponent = session.device(name), session.device(old if is_device(old) else name)
    images = first_batch(session, batch_size).images

    def seconds(device: Device, artifact: Artifact) -> float:
        return time_batches(device, artifact, images, 1)[0]

    new = partial(seconds, device, session.artifact(name, batch_size))
    found = time_alternately(
        new, partial(seconds, opponent, _old_artifact(session, name, batch_size)), session.options.slowdown_allowed
    )
    return judge_slowdown(found, session.options.slowdown_allowed, old, batch_size)


def _old_artifact(session: Session, name: str, batch_size: int) -> Artifact:
    old, precision = session.options.against, session.options.precision
    assert old is not None
    if is_device(old):
        return session.artifact(old, batch_size)
    device = session.device(name)
    calibration = session.calibration if precision == "int8" else None
    exported = session.old_subject.exported(device.card, session.shared, batch_size, calibration)
    return device.convert(exported, batch_size, precision)


def first_batch(session: Session, batch_size: int) -> Batch:
    """Prepare the first images of the run as one batch."""
    prepared = batches(session.card, session.dataset, batch_size, session.dataset.image_ids[:batch_size])
    return next(islice(prepared, 1))
