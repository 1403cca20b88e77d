"""Command lines that run an om where no runtime can be imported: ais_bench's or msit's, and benchmark.x86_64's.

Each is a runner whose vendor's runtime is a program: files in, a process for every batch, files out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.convert.ascend.atc import explained
from harness.convert.process import run_tool
from harness.devices.link import Array
from harness.errors import HarnessError
from harness.exchange.layout import find_results
from harness.exchange.tensors import read_file
from harness.files.temporary import TemporaryFolder

LIMIT_S = 600.0
"""A tool that takes longer over one batch hangs."""


@dataclass(frozen=True, slots=True)
class OmFile:
    """An om that a program loads for every batch.

    Attributes:
        om: The file.
        device: Number of the chip.
        shapes: Of one image's outputs, in the om's order.
        facts: None that a program states before it runs.
    """

    om: Path
    device: int
    shapes: tuple[tuple[int, ...], ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


class CommandLine:
    """A tool that reads files and writes files."""

    name: str

    def command(self, handle: OmFile, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """Return the tool and its options."""
        raise NotImplementedError

    def load(self, spec: Mapping[str, Any]) -> OmFile:
        """Note the om; every batch loads it anew.

        Args:
            spec: Path of the ``om``, number of the ``device`` and ``shapes`` of one image's outputs.
        """
        return OmFile(Path(spec["om"]), spec["device"], tuple(tuple(shape) for shape in spec["shapes"]))

    def run(self, handle: OmFile, images: Array) -> dict[str, Array]:
        """Run one batch: a file an image in, a file an image and output out."""
        with TemporaryFolder() as scratch:
            folder = Path(scratch)
            (folder / "inputs").mkdir()
            stems = {index: f"{index:06}" for index in range(len(images))}
            for index, stem in stems.items():
                np.ascontiguousarray(images[index]).tofile(folder / "inputs" / f"{stem}.bin")
            command = self.command(handle, folder / "inputs", folder / "result", images)
            try:
                run_tool(command, folder, os.environ, f"{self.name}, {handle.om.name}", handle.om, limit_s=LIMIT_S)
            except HarnessError as error:
                raise explained(error, folder / f"{Path(command[0]).name}.log") from error
            files = find_results(folder / "result", stems).files
            of_images = [files[index] for index in stems]
            return {str(place): self._output(handle, place, of_images) for place in range(len(handle.shapes))}

    def close(self, handle: OmFile) -> None:
        """Do nothing: no process outlives its batch."""

    def _output(self, handle: OmFile, place: int, files: Sequence[Sequence[Path]]) -> Array:
        shape, arrays = handle.shapes[place], []
        for of_image in files:
            if len(of_image) != len(handle.shapes):
                raise HarnessError(
                    f"{self.name} wrote {len(of_image)} outputs, and the model has {len(handle.shapes)}",
                    file=handle.om,
                )
            values = read_file(of_image[place], "float32")
            if values.size != np.prod(shape):
                raise HarnessError(
                    f"output {place} is of {values.size} float32 values, and the model's of shape {list(shape)}",
                    file=handle.om,
                    remedy="convert without --output_type, and with this batch size",
                )
            arrays.append(values.reshape(shape))
        return np.stack(arrays)


class AisBenchCommand(CommandLine):
    """Command line of ais_bench, or of msit, which is the same with other spellings."""

    name = "ais_bench (command line)"

    def command(self, handle: OmFile, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """Return the tool and its options, in the spelling of the one that is there."""
        result.mkdir()
        msit = shutil.which("msit")
        if importlib.util.find_spec("ais_bench") is None and msit is not None:
            told: list[str | Path] = [msit, "benchmark", "--om-model", handle.om, "--output-dirname", "out"]
            told += ["--batch-size", str(len(images))]
        else:
            told = [sys.executable, "-m", "ais_bench", "--model", handle.om, "--output_dirname", "out"]
            told += ["--batchsize", str(len(images))]
        return [*told, "--input", inputs, "--output", result, "--device", str(handle.device)]


class BenchmarkCommand(CommandLine):
    """Command line of benchmark.x86_64, which is no longer offered: its files count from 1."""

    name = "benchmark.x86_64"

    def command(self, handle: OmFile, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """Return the tool and its options; it writes to ``result`` in the folder that it runs in."""
        height, width = images.shape[2:]
        lines = [f"{i} {path} {width} {height}" for i, path in enumerate(sorted(inputs.iterdir()))]
        listing = inputs.with_suffix(".info")
        listing.write_text("\n".join([*lines, ""]))
        tool = shutil.which("benchmark.x86_64")
        assert tool is not None  # it was looked for
        return [
            tool,
            "-model_type=vision",
            f"-device_id={handle.device}",
            f"-batch_size={len(images)}",
            f"-om_path={handle.om}",
            f"-input_text_path={listing}",
            f"-input_width={width}",
            f"-input_height={height}",
            "-output_binary=true",
            "-useDvpp=false",
        ]
