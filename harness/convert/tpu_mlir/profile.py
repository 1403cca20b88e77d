"""How fast the compiler believes a model to be: its own estimate, made while it writes the instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

RUNTIME = re.compile(r"^flops: (\d+), runtime: ([\d.]+)ms", re.MULTILINE)
TRAFFIC = re.compile(r"S2L:(\d+)\|dr\[1\] L2S:(\d+)(?:\|dr\[2\] S2S:(\d+))?")

DDR_BYTES_PER_SECOND = {"bm1684": 32 * 2**30, "bm1684x": 64 * 2**30, "bm1688": 21.6 * 2**30}
"""What moves more bytes than this cannot be faster. BM1684X, BM1688: from the profile's own share of the bandwidth;
BM1684, whose profile says nothing, as tpu_perf has it."""


@dataclass(frozen=True, slots=True)
class ProfileEstimate:
    """What the compiler estimates for one batch.

    Attributes:
        latency_ms: Of one batch, on the chip alone.
        flops: Twice the multiplications.
        ddr_bytes: Moved between the chip and its memory; None where the profile does not say.
        note: What the estimate assumes and leaves out.
    """

    latency_ms: float
    flops: int
    ddr_bytes: int | None
    note: str


def ddr_floor_ms(ddr_bytes: int | None, chip: str) -> float | None:
    """Time that the traffic alone takes at the chip's bandwidth; None where either is not known."""
    bandwidth = DDR_BYTES_PER_SECOND.get(chip)
    return None if ddr_bytes is None or bandwidth is None else 1000 * ddr_bytes / bandwidth


ASSUMPTIONS = {
    "bm1684": "550 MHz",
    "bm1684x": "1000 MHz, memory at 64 GiB/s",
    "bm1688": "900 MHz, memory at 21.6 GiB/s",
}


def read_estimate(folder: Path, chip: str) -> ProfileEstimate:
    """The estimate that a deployment left in the folder it ran in.

    Raises:
        HarnessError: There is none, or not in the form that this version of tpu_mlir writes.
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
