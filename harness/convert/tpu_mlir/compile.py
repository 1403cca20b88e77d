"""Conversion of an ONNX to a bmodel: model_transform, run_calibration, model_deploy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import Field

from harness.cache import cached_folder, content_key
from harness.cards.model import Int8
from harness.cards.schema import Record
from harness.convert.process import run_tool, tool_failed
from harness.convert.tpu_mlir.environment import VERSION, Environment
from harness.convert.tpu_mlir.graph import Graph, float_operators, host_operators, named_operators, read_graph
from harness.convert.tpu_mlir.losses import IMAGES, own_losses, tensor_errors
from harness.convert.tpu_mlir.profile import read_estimate
from harness.data.calibration import Calibration
from harness.data.dataset import first_few
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.files import file_sha256

MODES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "INT8"}
FORM = 5
"""Version of the conversion, part of the cache key; raise it with every change of the conversion or its record."""
RECORD = "record.json"
BMODEL = "model.bmodel"
DEPLOY_LOG = "model_deploy.log"
RANGES = "calibration_table"


class Conversion(Record):
    """Record of a conversion, kept beside its result.

    Attributes:
        outputs: tpu_mlir's name of each output of the ONNX; a model that casts the output adds "_f32" or the like.
        input: Name of the input in the ONNX.
        shape: Shape of the input.
        host_operators: Operators that run on the host's CPU instead of the chip.
        float_operators: Operators of another precision than the rest, with that precision.
        losses: Under int8, the first tensors of the ONNX that lose much. Each has the error that its operator adds to
            the error of its inputs, root mean square, as a share of the size of the tensor.
        latency_ms: The compiler's estimate for one batch, see `profile`; None if no bmodel was made.
        ddr_bytes: Bytes moved between the chip and its memory; None if not known.
        estimate_note: Assumptions of the estimate.
    """

    outputs: dict[str, str]
    input: str
    shape: tuple[int, ...]
    host_operators: tuple[str, ...]
    float_operators: dict[str, str]
    losses: dict[str, float] = Field(default_factory=dict)
    latency_ms: float | None = None
    ddr_bytes: int | None = None
    estimate_note: str = ""


@dataclass(frozen=True, slots=True)
class TpuMlirRequest:
    """A request for a conversion by tpu_mlir.

    Attributes:
        onnx: The model with static shapes; its batch size is that of the bmodel.
        outputs: The wanted outputs; operators that serve only other outputs, such as a decoder, are left out.
        chip: Value for ``model_deploy --chip``.
        precision: "fp32", "fp16", "bf16" or "int8".
        chip_float: The chip's floating precision beside INT8: "F16" or "F32".
        calibration: Calibration images for int8.
        lowered: Stop at the operators of the chip, for the interpreter, without a bmodel.
        int8: Settings of quantisation from the model's card.
    """

    onnx: Path
    outputs: tuple[str, ...]
    chip: str
    precision: str
    chip_float: str
    calibration: Calibration | None = None
    lowered: bool = False
    int8: Int8 = field(default_factory=Int8)

    @property
    def what(self) -> str:
        """Description of the request, for messages."""
        return f"tpu_mlir, {self.onnx.stem} to {self.chip} {self.precision}"


def convert(environment: Environment, request: TpuMlirRequest) -> tuple[Path, Conversion]:
    """Convert a model to a bmodel (or lowered model), or take the result from the cache.

    Returns:
        Path of the result, and its record.

    Raises:
        HarnessError: The model has an operator that the compiler refuses, there are no calibration images, a tool
            fails, or the cache cannot be written.
    """
    parts: dict[str, object] = {
        "onnx": file_sha256(request.onnx),
        "outputs": request.outputs,
        "chip": request.chip,
        "precision": request.precision,
        "float": request.chip_float,
        "tool": VERSION,
        "form": FORM,
    }
    if request.precision == "int8":
        parts["int8"] = json.loads(request.int8.model_dump_json())
        parts["calibration"] = _calibration(request).key()
    kind = "lowered" if request.lowered else "bmodel"
    folder = cached_folder(
        kind, content_key(parts), lambda partial: _ConversionRun(environment, request, partial).run()
    )
    record = Conversion.model_validate_json((folder / RECORD).read_bytes())
    return next(folder.glob("*_tpu.mlir")) if request.lowered else folder / BMODEL, record


def _calibration(request: TpuMlirRequest) -> Calibration:
    if request.calibration is None:
        raise HarnessError(
            f"{request.what}: int8 needs images to take its ranges from",
            field="--calibration-images",
            remedy="give a data set: --coco ROOT, or none for the embedded one",
        )
    return request.calibration


class _ConversionRun:
    """One conversion, in the folder that becomes its entry in the cache."""

    def __init__(self, environment: Environment, request: TpuMlirRequest, folder: Path) -> None:
        self.environment = environment
        self.request = request
        self.folder = folder
        self.work = folder / "work"

    def run(self) -> None:
        """Convert the model and fill the folder."""
        request, work = self.request, self.work
        work.mkdir()
        spec = stated_by(load_onnx_checked(request.onnx)).inputs[0]
        shape = tuple(side or 0 for side in spec.shape)
        if not all(shape):
            raise HarnessError(
                f"{request.what}: the compiler needs a static shape, and input '{spec.name}' has {list(spec.shape)}",
                file=request.onnx,
                remedy="export the model with a fixed batch size",
            )
        if any("," in name for name in request.outputs):
            raise HarnessError(
                f"{request.what}: model_transform separates names of outputs by commas: {first_few(request.outputs)}",
                file=request.onnx,
                field="output.names",
                remedy="rename these outputs in the ONNX and on the card",
            )
        definition: list[str | Path] = ["--model_name", "m", "--model_def", request.onnx.absolute(), "--mlir", "m.mlir"]
        definition += ["--input_shapes", json.dumps([shape]), "--output_names", ",".join(request.outputs)]
        self._tool("model_transform", [*definition, "--channel_format", "none"])
        graph = read_graph(work / "m.mlir")
        table = float_operators(graph, MODES[request.precision], request.chip_float)
        if request.precision == "int8":
            table |= {
                operation.name: request.chip_float for operation in named_operators(graph, request.int8.keep_float)
            }
        losses: dict[str, float] = {}
        if request.lowered or request.precision == "int8":
            self._deploy(table, spec.name, shape[0], "--not_gen_bmodel")
        if request.precision == "int8":  # before the bmodel, whose making removes the weights of the lowered model
            losses = self._losses(graph, self._lowered(), shape[0])
        if not request.lowered:
            self._deploy(table, spec.name, shape[0])
        lowered = self._lowered()
        record = Conversion(
            outputs=output_names(request, graph),
            input=spec.name,
            shape=shape,
            host_operators=tuple(host_operators(lowered)),
            float_operators=table,
            losses=losses,
        )
        if request.lowered:
            for path in (lowered, *work.glob("*_tpu*_weights.npz")):
                path.replace(self.folder / path.name)
        else:
            record = self._keep_bmodel(record)
        (self.folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        shutil.rmtree(work)

    def _keep_bmodel(self, record: Conversion) -> Conversion:
        """Move the bmodel to the folder, and add its estimate to the record."""
        if not (self.work / "m.bmodel").is_file():
            raise tool_failed(f"{self.request.what}: model_deploy", "left no bmodel", self.work / DEPLOY_LOG)
        estimate = read_estimate(self.work, self.request.chip)
        (self.work / "m.bmodel").replace(self.folder / BMODEL)
        found = {"latency_ms": estimate.latency_ms, "ddr_bytes": estimate.ddr_bytes, "estimate_note": estimate.note}
        return record.model_copy(update=found)

    def _lowered(self) -> Path:
        found = next(self.work.glob("*_tpu.mlir"), None)
        if found is None:
            raise tool_failed(f"{self.request.what}: model_deploy", "left no lowered model", self.work / DEPLOY_LOG)
        return found

    def _losses(self, graph: Graph, lowered: Path, batch_size: int) -> dict[str, float]:
        inputs = islice(_calibration(self.request).inputs(batch_size), IMAGES)
        what = f"{self.request.what}: comparing every tensor with float"
        errors = tensor_errors(self.environment, self.work, "m.mlir", lowered.name, inputs, what)
        return {name.rpartition("_")[0]: loss for name, loss in own_losses(graph, errors).items()}

    def _deploy(self, table: dict[str, str], input_name: str, batch_size: int, *options: str) -> None:
        request = self.request
        arguments: list[str | Path] = ["--mlir", "m.mlir", "--quantize", MODES[request.precision]]
        arguments += ["--chip", request.chip, "--model", "m.bmodel"]
        if table:
            spaced = [name for name in table if name.split() != [name]]
            if spaced:
                raise HarnessError(
                    f"{request.what}: its table of precisions takes no name with a space: {first_few(spaced)}",
                    file=request.onnx,
                    remedy="rename these tensors in the ONNX",
                )
            lines = "".join(f"{name} {kind}\n" for name, kind in table.items())
            (self.work / "qtable").write_text(lines, encoding="utf-8")
            arguments += ["--quantize_table", "qtable"]
        if request.precision == "int8":
            arguments += ["--calibration_table", self._ranges(input_name, batch_size)]
        self._tool("model_deploy", [*arguments, *options])

    def _ranges(self, input_name: str, batch_size: int) -> Path:
        """Measure the ranges of every tensor, which serve every chip; return their file."""
        calibration = _calibration(self.request)
        model = [file_sha256(self.request.onnx), *self.request.outputs]
        key = {"model": model, "calibration": calibration.key(), "tool": VERSION, "ranges": self.request.int8.ranges}

        def measure(folder: Path) -> None:
            samples, count = folder / "samples", 0
            samples.mkdir()
            for count, images in enumerate(calibration.inputs(batch_size), start=1):
                arrays: dict[str, Any] = {input_name: images}
                np.savez(samples / f"{count:05}.npz", **arrays)
            arguments: list[str | Path] = [
                "m.mlir",
                "--dataset",
                samples,
                "--input_num",
                str(count),
                "--cali_method",
                self.request.int8.ranges,
                "--tune_num",
                "5" if self.request.int8.ranges == "kl" else "0",
                "-o",
                folder / RANGES,
            ]
            self._tool("run_calibration", arguments, f", {len(calibration.image_ids)} images")
            shutil.rmtree(samples)

        return cached_folder("calibration", content_key(key), measure) / RANGES

    def _tool(self, tool: str, arguments: Sequence[str | Path], note: str = "") -> None:
        what = f"{self.request.what}: {tool}{note}"
        command = [self.environment.tool(tool), *arguments]
        run_tool(command, self.work, self.environment.variables(), what, self.request.onnx)


def output_names(request: TpuMlirRequest, graph: Graph) -> dict[str, str]:
    """Return tpu_mlir's name of each output: the name, "_", and the operator that gives it.

    An output that only passes another tensor on has that tensor's name; such outputs are found by their position.
    """
    nodes = onnx.load(request.onnx, load_external_data=False).graph.node
    producers = {output: node.op_type for node in nodes for output in node.output}
    called = [graph.operations[name].name for name in graph.returned]
    own = {name: f"{name}_{producers[name]}" for name in request.outputs}
    return {name: own[name] if own[name] in called else called[place] for place, name in enumerate(request.outputs)}
