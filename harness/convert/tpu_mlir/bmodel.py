"""The statements of a bmodel about itself: chip, tensors, scales, memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.convert.process import run_tool
from harness.convert.tpu_mlir.environment import Environment
from harness.errors import HarnessError
from harness.files.temporary import TemporaryFolder

TENSOR = re.compile(
    r"^(input|output): (.+), \[([\d, ]*)\], (\w+), scale: ([-\d.e+]+)(?:, zero[_ ]point: (-?\d+))?", re.MULTILINE
)
CHIP = re.compile(r"^chip: (\S+)", re.MULTILINE)
MEMORY = re.compile(r"^device mem size: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StatedTensor:
    """An input or output as a bmodel states it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Stated:
    """The statements of a bmodel about itself; `device_bytes` is the memory that it takes on the chip."""

    chip: str
    inputs: tuple[StatedTensor, ...]
    outputs: tuple[StatedTensor, ...]
    device_bytes: int


def read_bmodel(environment: Environment, path: Path) -> Stated:
    """Read chip and tensors of a bmodel.

    Raises:
        HarnessError: The file is missing or no bmodel.
    """
    if not path.is_file():
        raise HarnessError("no such file", file=path, remedy="check the path")
    with TemporaryFolder() as folder:
        command: list[str | Path] = [environment.tool("model_tool"), "--info", path.absolute()]
        text = run_tool(command, Path(folder), environment.variables(), f"reading {path.name}", path)
    return parse_info(text, path)


def parse_info(text: str, path: Path) -> Stated:
    """Parse the output of ``model_tool --info``.

    Raises:
        HarnessError: It names no chip or no tensors.
    """
    chip, tensors, memory = CHIP.search(text), TENSOR.findall(text), MEMORY.search(text)
    sides = {side: tuple(_tensor(row) for row in tensors if row[0] == side) for side in ("input", "output")}
    if chip is None or not sides["input"] or not sides["output"]:
        raise HarnessError("not a bmodel that model_tool can read", file=path, remedy="convert the model again")
    return Stated(chip[1].lower(), sides["input"], sides["output"], int(memory[1]) if memory else 0)


def _tensor(row: tuple[str, ...]) -> StatedTensor:
    _, name, shape, dtype, scale, zero_point = row
    return StatedTensor(name, tuple(int(side) for side in shape.split(",")), dtype, float(scale), int(zero_point or 0))
