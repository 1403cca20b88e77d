"""The compiler's own estimate of a model's speed, made while it writes the instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

RUNTIME = re.compile(r"^flops: (\d+), runtime: ([\d.]+)ms", re.MULTILINE)
TRAFFIC = re.compile(r"S2L:(\d+)\|dr\[1\] L2S:(\d+)(?:\|dr\[2\] S2S:(\d+))?")

DDR_BYTES_PER_SECOND = {"bm1684": 32 * 2**30, "bm1684x": 64 * 2**30, "bm1688": 21.6 * 2**30}
"""Memory bandwidth of each chip, which bounds its speed.

BM1684X and BM1688: from the profile's own share of the bandwidth. BM1684, whose profile has no such share: from
tpu_perf.
"""


@dataclass(frozen=True, slots=True)
class ProfileEstimate:
    """The compiler's estimate for one batch.

    Attributes:
        latency_ms: Time of one batch on the chip alone.
        flops: Floating operations: twice the multiplications.
        ddr_bytes: Bytes moved between the chip and its memory; None if the profile does not say.
        note: Assumptions and omissions of the estimate.
    """

    latency_ms: float
    flops: int
    ddr_bytes: int | None
    note: str


def ddr_floor_ms(ddr_bytes: int | None, chip: str) -> float | None:
    """Return the time of the memory traffic alone at the chip's bandwidth; None if either is unknown."""
    bandwidth = DDR_BYTES_PER_SECOND.get(chip)
    return None if ddr_bytes is None or bandwidth is None else 1000 * ddr_bytes / bandwidth


ASSUMPTIONS = {
    "bm1684": "550 MHz",
    "bm1684x": "1000 MHz, memory at 64 GiB/s",
    "bm1688": "900 MHz, memory at 21.6 GiB/s",
}


def read_estimate(folder: Path, chip: str) -> ProfileEstimate:
    """Read the estimate that model_deploy left in its working folder.

    Raises:
        HarnessError: There is none in the form that this version of tpu_mlir writes.
    """
    files = sorted(folder.glob("*_0.txt")) or sorted(folder.glob("*_0.dat"))
    if not files:
        raise HarnessError("the compiler wrote no profile", file=folder, remedy="use the tpu_mlir that doctor installs")
    text = files[0].read_text(encoding="utf-8", errors="replace")
    runtimes, traffic = RUNTIME.findall(text), TRAFFIC.findall(text)
    if not runtimes:
        raise HarnessError("the compiler's profile has no line 'flops: ..., runtime: ...'", file=files[0])
    note = f"compiler's estimate at {ASSUMPTIONS.get(chip, 'its own assumptions')}; data-dependent gathers not modelled"
    return ProfileEstimate(
        latency_ms=sum(float(runtime) for _, runtime in runtimes),
        flops=max(int(flops) for flops, _ in runtimes),
        ddr_bytes=sum(int(value or 0) for row in traffic for value in row) if traffic else None,
        note=note,
    )
