"""Speed of a device at a batch size, as it stands in the document: with samples, yardstick and remarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.outcome import StageResult, not_applicable
from harness.checks.speed import beside
from harness.checks.steadiness import remarks_on
from harness.report.environment import cores
from harness.report.records import Latency, Perf
from harness.run.against import first_batch
from harness.run.speed import Speed, measure
from harness.run.yardstick import NAME, open_yardstick

if TYPE_CHECKING:
    from harness.run.session import Session


@dataclass(frozen=True, slots=True)
class Measured:
    """A speed, the record of it, and the images that it is of."""

    speed: Speed
    perf: Perf
    images: int

    def facts(self, session: Session, name: str) -> dict[str, object]:
        """Return what pytest-benchmark keeps beside the times of a test."""
        from harness.centernet.networks.macs import card_gmacs  # PyTorch takes seconds to load

        device, speed = session.device(name).card, self.speed
        gmac = card_gmacs(session.card)
        executed = session.artifact(name, speed.batch_size).executed
        return {
            "device": name,
            "execution": device.execution,
            "batch_size": speed.batch_size,
            "images": self.images,
            "fps": speed.fps,
            **{f"latency_ms_p{q}": float(np.percentile(speed.batch_ms, q)) for q in (50, 90, 99)},
            "share_of_peak": None if gmac is None else speed.share_of_peak(gmac, device),
            "interval": speed.interval,
            "cores": cores(),
            "threads": executed.get("threads"),
            "executed": executed,
            "yardstick": self.perf.yardstick,
            "yardstick_ms": list(self.perf.yardstick_ms),
            "remarks": list(self.perf.remarks),
        }


def measured_speed(session: Session, name: str, batch_size: int) -> Measured:
    """Measure the speed of a device, and beside it that of the yardstick.

    Raises:
        HarnessError: The device cannot take the model.
    """
    device, artifact = session.device(name), session.artifact(name, batch_size)
    batch, yardstick = first_batch(session, batch_size), open_yardstick(session, name)
    speed = measure(device, artifact, batch, None if isinstance(yardstick, str) else yardstick)
    remarks = remarks_on(speed.batch_ms)
    perf = Perf(
        batch_size=batch_size,
        fps=speed.fps,
        latency_ms=Latency.of(speed.batch_ms),
        interval="; ".join([speed.interval, *beside(speed, device.card, session.card), *remarks]),
        batch_ms=speed.batch_ms,
        yardstick_ms=speed.yardstick_ms,
        yardstick=f"none: {yardstick}" if isinstance(yardstick, str) else NAME,
        remarks=remarks,
    )
    return Measured(speed, perf, len(batch.image_ids))


def speed(session: Session, name: str, batch_size: int) -> StageResult:
    """Perf: the speed of the device, which a baseline may hold."""
    reason = session.device(name).card.reason_against("perf")
    if reason is not None:
        return not_applicable("perf", batch_size, reason)
    perf = measured_speed(session, name, batch_size).perf
    return StageResult(not_applicable("perf", batch_size, "measured: the gate compares it").stage, perf=(perf,))
