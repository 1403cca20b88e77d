"""What a check needs before any work begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cards import require_one_stage
from harness.centernet.heads import check_contract
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.run.against import check_against

if TYPE_CHECKING:
    from harness.run.session import Session


def check_preconditions(session: Session) -> None:
    """Raise HarnessError where something that was asked for is missing or wrong."""
    options = session.options
    session.check_devices()
    for device in map(session.device, options.devices):
        device.check()
        if options.precision not in device.card.precisions:
            raise HarnessError(
                f"device '{device.card.name}' has no precision '{options.precision}'",
                field="--precision",
                remedy=f"use one of {', '.join(device.card.precisions)}",
            )
    _ = session.subject, session.dataset
    if options.shard is not None:
        _ = session.part_ids
    if options.onnx is not None:
        stated = stated_by(load_onnx_checked(options.onnx))
        for batch_size in options.batch_sizes:
            check_contract(require_one_stage(session.card), stated, batch_size, options.onnx)
    check_against(session)
