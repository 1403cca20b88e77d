"""The chips of a host, from the table of ``npu-smi info``."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.convert.process import run_tool
from harness.errors import HarnessError
from harness.files.temporary import TemporaryFolder

HEALTH = frozenset({"OK", "WARNING", "ALARM", "CRITICAL", "UNKNOWN"})
NAMED = re.compile(r"(\d+)\s+(\S+)")
CHIP = re.compile(r"(\d+)(?:\s+(\d+))?")
NAMES = re.compile(r"310|310P\d|310B\d|910\w*")
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Npu:
    """One chip.

    Attributes:
        card: Number of the card ("NPU").
        device: Number for ``--device`` of the runners; it is not the card's.
        name: Name in the table, such as "310P3".
        health: "OK", or the state in the table.
    """

    card: int
    device: int
    name: str
    health: str

    @property
    def soc(self) -> str:
        """Name of the chip for ATC.

        Raises:
            HarnessError: The driver shows no digit after 310B or 310P, so that the chip is ambiguous.
        """
        if NAMES.fullmatch(self.name) is None:
            raise HarnessError(
                f"npu-smi calls the chip '{self.name}', and --soc_version needs the digit behind it: an om for "
                f"{self.name}1 does not run on {self.name}4",
                field="--soc",
                remedy="look at the module's label, or at 'npu-smi info -t board -i 0 -c 0' of a newer driver",
            )
        return f"Ascend{self.name}"


def parse_npu_smi(text: str) -> tuple[Npu, ...]:
    """Read the chips from the table of ``npu-smi info``.

    Every chip has two rows: NPU and name, health, power; then chip and device, bus, memory. Other lines are ignored,
    such as logs and the table of processes that newer drivers append.

    Raises:
        HarnessError: The table has no chip.
    """
    found, above = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) < 2:
            continue
        named, numbered = NAMED.fullmatch(cells[0]), CHIP.fullmatch(cells[0])
        if named is not None and cells[1].upper() in HEALTH:
            above = (int(named[1]), named[2], cells[1])
        elif numbered is not None and above is not None:
            # Older drivers leave the number of the device out if a module has one chip.
            found.append(Npu(above[0], int(numbered[2] or numbered[1]), above[1], above[2]))
            above = None
    if not found:
        raise HarnessError("npu-smi shows no chip", remedy="look at 'npu-smi info', and at the driver's installation")
    return tuple(found)


def find_npus() -> tuple[Npu, ...]:
    """Find the chips of this host.

    Raises:
        HarnessError: There is no npu-smi, it fails or hangs, or it shows no chip.
    """
    tool = shutil.which("npu-smi")
    if tool is None:
        raise HarnessError("no npu-smi on the PATH: the driver is not installed", remedy="run where the chip is")
    with TemporaryFolder() as folder:
        return parse_npu_smi(run_tool([tool, "info"], Path(folder), os.environ, "npu-smi info", limit_s=LIMIT_S))
