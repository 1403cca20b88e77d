"""What runs an om: ais_bench in this process, pyACL, and the command lines of ais_bench and benchmark.x86_64."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.convert.ascend.atc import explained
from harness.convert.ascend.codes import explain, explain_status
from harness.convert.process import run_tool
from harness.devices.artifact import TensorSpec
from harness.errors import HarnessError
from harness.exchange.layout import find_results
from harness.exchange.tensors import read_file

Array = NDArray[Any]
LIMIT_S = 600.0
"""A tool that takes longer over one batch hangs."""
TYPES = {0: np.float32, 1: np.float16, 2: np.int8, 4: np.uint8}
"""Of ACL's numbers for types, those that an image or a head may have."""


class Runtime(Protocol):
    """Holds one om, and runs batches on it."""

    name: str
    """For the report."""

    def __init__(self, om: Path, device: int, outputs: Sequence[TensorSpec]) -> None: ...

    def run(self, images: Array) -> list[Array]:
        """Run one batch: C-contiguous images in, the outputs in the om's order out."""


def require_input(images: Array, size: int, om: Path) -> None:
    """Refuse what would be read by its address alone as something else.

    Args:
        images: One batch.
        size: Bytes of the om's input.
        om: For the message.

    Raises:
        HarnessError: The bytes are not as many as the input's, as of an om with AIPP or fp16 input, or another batch.
    """
    if images.nbytes != size:
        raise HarnessError(
            f"the om takes {size} bytes and the batch has {images.nbytes} ({images.dtype} of shape {images.shape})",
            file=om,
            remedy="convert with a float32 input and this batch size, without AIPP and --input_fp16_nodes",
        )


class AisBench:
    """ais_bench's Python interface."""

    name = "ais_bench (Python)"

    def __init__(self, om: Path, device: int, outputs: Sequence[TensorSpec]) -> None:
        del outputs  # the session knows their shapes
        interface: Any = importlib.import_module("ais_bench.infer.interface")
        self.om = om
        try:
            self.session = interface.InferSession(device, str(om))
        except Exception as error:  # the vendor's errors have no base of their own
            raise load_failed(om, str(error)) from error

    @property
    def output_names(self) -> list[str]:
        """As the om calls them; they hold the names of the nodes."""
        return [output.name for output in self.session.get_outputs()]

    def run(self, images: Array) -> list[Array]:
        """Run one batch; the session takes the address of an array, so it must lie in memory as it is indexed."""
        (given,) = self.session.get_inputs()
        contiguous = np.ascontiguousarray(images)
        require_input(contiguous, int(given.size), self.om)
        return [np.array(output) for output in self.session.infer([contiguous])]


class PyAcl:
    """pyACL, the runtime's own binding; load, execution and copies share one context."""

    name = "pyACL"

    def __init__(self, om: Path, device: int, outputs: Sequence[TensorSpec]) -> None:
        del outputs
        acl: Any = importlib.import_module("acl")
        self.acl, self.om = acl, om
        self._check("acl.init", acl.init())
        self._check("acl.rt.set_device", acl.rt.set_device(device))
        self.context = self._got("acl.rt.create_context", acl.rt.create_context(device))
        self.model = self._got("acl.mdl.load_from_file", acl.mdl.load_from_file(str(om)))
        self.description = acl.mdl.create_desc()
        self._check("acl.mdl.get_desc", acl.mdl.get_desc(self.description, self.model))
        self.inputs = self._buffers(acl.mdl.get_num_inputs, acl.mdl.get_input_size_by_index)
        self.outputs = self._buffers(acl.mdl.get_num_outputs, acl.mdl.get_output_size_by_index)

    def _buffers(self, count: Any, size_of: Any) -> tuple[object, list[tuple[int, int]]]:  # noqa: ANN401
        acl, places = self.acl, []
        dataset = acl.mdl.create_dataset()
        for index in range(count(self.description)):
            size = size_of(self.description, index)
            pointer = self._got("acl.rt.malloc", acl.rt.malloc(size, 0))
            buffer = acl.create_data_buffer(pointer, size)
            self._got("acl.mdl.add_dataset_buffer", acl.mdl.add_dataset_buffer(dataset, buffer))
            places.append((pointer, size))
        return dataset, places

    @property
    def output_names(self) -> list[str]:
        """As the om calls them."""
        return [self._dims(index)["name"] for index in range(len(self.outputs[1]))]

    def run(self, images: Array) -> list[Array]:
        """Run one batch."""
        acl, contiguous = self.acl, np.ascontiguousarray(images)
        (pointer, size), *_ = self.inputs[1]
        require_input(contiguous, size, self.om)
        self._check("acl.rt.memcpy", acl.rt.memcpy(pointer, size, contiguous.ctypes.data, size, 1))
        self._check("acl.mdl.execute", acl.mdl.execute(self.model, self.inputs[0], self.outputs[0]))
        found = []
        for index, (pointer, _) in enumerate(self.outputs[1]):
            kind = TYPES[acl.mdl.get_output_data_type(self.description, index)]
            output = np.empty(self._dims(index)["dims"], kind)
            self._check("acl.rt.memcpy", acl.rt.memcpy(output.ctypes.data, output.nbytes, pointer, output.nbytes, 2))
            found.append(output)
        return found

    def _dims(self, index: int) -> dict[str, Any]:
        dims: dict[str, Any] = self._got(
            "acl.mdl.get_output_dims", self.acl.mdl.get_output_dims(self.description, index)
        )
        return dims

    def _got(self, call: str, answer: tuple[Any, int]) -> Any:  # noqa: ANN401 - of any kind
        self._check(call, answer[1])
        return answer[0]

    def _check(self, call: str, status: int) -> None:
        if status != 0:
            told = explain_status(status)
            raise HarnessError(f"{call} returned {status}: {told.meaning}", file=self.om, remedy=told.remedy)


class _CommandLine:
    """A tool that reads files and writes files."""

    name: str

    def __init__(self, om: Path, device: int, outputs: Sequence[TensorSpec]) -> None:
        self.om, self.device, self.specs = om, device, outputs

    def command(self, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """The tool and its options."""
        raise NotImplementedError

    def run(self, images: Array) -> list[Array]:
        """Run one batch: a file an image in, a file an image and output out."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "inputs").mkdir()
            stems = {index: f"{index:06}" for index in range(len(images))}
            for index, stem in stems.items():
                np.ascontiguousarray(images[index]).tofile(folder / "inputs" / f"{stem}.bin")
            command = self.command(folder / "inputs", folder / "result", images)
            try:
                run_tool(command, folder, os.environ, f"{self.name}, {self.om.name}", self.om, limit_s=LIMIT_S)
            except HarnessError as error:
                raise explained(error, folder / f"{Path(command[0]).name}.log") from error
            files = find_results(folder / "result", stems).files
            return [self._output(place, [files[index] for index in stems]) for place in range(len(self.specs))]

    def _output(self, place: int, files: Sequence[Sequence[Path]]) -> Array:
        shape = self.specs[place].shape[1:]
        arrays = []
        for of_image in files:
            if len(of_image) != len(self.specs):
                raise HarnessError(
                    f"{self.name} wrote {len(of_image)} outputs, and the model has {len(self.specs)}", file=self.om
                )
            values = read_file(of_image[place], "float32")
            if values.size != np.prod([side or 0 for side in shape]):
                raise HarnessError(
                    f"output {place} is of {values.size} float32 values, and the model's of shape {list(shape)}",
                    file=self.om,
                    remedy="convert without --output_type, and with this batch size",
                )
            arrays.append(values.reshape([side or 0 for side in shape]))
        return np.stack(arrays)


class AisBenchCommand(_CommandLine):
    """ais_bench's command line, or msit's, which is the same with other spellings."""

    name = "ais_bench (command line)"

    def command(self, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """The tool and its options, in the spelling of the one that is there."""
        result.mkdir()
        msit = shutil.which("msit")
        if importlib.util.find_spec("ais_bench") is None and msit is not None:
            told: list[str | Path] = [msit, "benchmark", "--om-model", self.om, "--output-dirname", "out"]
            told += ["--batch-size", str(len(images))]
        else:
            told = [sys.executable, "-m", "ais_bench", "--model", self.om, "--output_dirname", "out"]
            told += ["--batchsize", str(len(images))]
        return [*told, "--input", inputs, "--output", result, "--device", str(self.device)]


class BenchmarkCommand(_CommandLine):
    """benchmark.x86_64, which is no longer offered: its files count from 1."""

    name = "benchmark.x86_64"

    def command(self, inputs: Path, result: Path, images: Array) -> list[str | Path]:
        """The tool and its options; it writes to ``result`` in the folder that it runs in."""
        height, width = images.shape[2:]
        lines = [f"{i} {path} {width} {height}" for i, path in enumerate(sorted(inputs.iterdir()))]
        listing = inputs.with_suffix(".info")
        listing.write_text("\n".join([*lines, ""]))
        tool = shutil.which("benchmark.x86_64")
        assert tool is not None  # it was looked for
        return [
            tool,
            "-model_type=vision",
            f"-device_id={self.device}",
            f"-batch_size={len(images)}",
            f"-om_path={self.om}",
            f"-input_text_path={listing}",
            f"-input_width={width}",
            f"-input_height={height}",
            "-output_binary=true",
            "-useDvpp=false",
        ]


def find_runtime() -> type[Runtime]:
    """The best runtime of this host: in this process before a command line, which loads the om for every batch.

    Raises:
        HarnessError: There is none; the message says what was looked for.
    """
    looked_for: list[tuple[bool, type[Runtime]]] = [
        (_importable("aclruntime") and _importable("ais_bench"), AisBench),
        (_importable("acl"), PyAcl),
        (_importable("ais_bench") or shutil.which("msit") is not None, AisBenchCommand),
        (shutil.which("benchmark.x86_64") is not None, BenchmarkCommand),
    ]
    for there, runtime in looked_for:
        if there:
            return runtime
    raise HarnessError(
        "neither ais_bench, pyACL (acl), msit nor benchmark.x86_64 is here",
        remedy="install ais_bench and aclruntime for this Python, or source CANN's set_env.sh, which has pyACL",
    )


def load_failed(om: Path, text: str) -> HarnessError:
    """The error of an om that a runtime does not take."""
    known = explain(text)
    meaning = "".join(f"\n  {one.code}: {one.meaning}" for one in known)
    remedy = "; ".join(one.remedy for one in known) or "convert it for the chip of this host, with its own CANN"
    first = text.splitlines()[0] if text else "no reason given"
    return HarnessError(f"the om cannot be loaded: {first}{meaning}", file=om, remedy=remedy)


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
