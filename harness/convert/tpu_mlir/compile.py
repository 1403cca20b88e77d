"""From an ONNX to a bmodel: model_transform, run_calibration, model_deploy, each in a folder of its own."""

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
from harness.centernet.networks.weights import file_sha256
from harness.convert.process import run_tool, tool_failed
from harness.convert.tpu_mlir.environment import VERSION, Environment
from harness.convert.tpu_mlir.graph import Graph, float_operators, host_operators, named_operators, read_graph
from harness.convert.tpu_mlir.losses import IMAGES, own_losses, tensor_errors
from harness.convert.tpu_mlir.profile import read_estimate
from harness.data.calibration import Calibration
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by

MODES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "INT8"}
FORM = 5
"""Counts up when what is kept of a conversion, or how it is made, changes."""
RECORD = "record.json"
BMODEL = "model.bmodel"
DEPLOY_LOG = "model_deploy.log"
RANGES = "calibration_table"


class Conversion(Record):
    """What is kept beside a conversion.

    Attributes:
        outputs: What tpu_mlir calls each output of the ONNX; a model that casts it adds "_f32" or the like.
        input: Name of the input in the ONNX.
        shape: Of the input.
        host_operators: Operators that left the chip for the host's CPU.
        float_operators: Operators that do not take the precision of the rest, and theirs.
        losses: Under int8, the first tensors of the ONNX that lose much, and what each adds to the error of what it is
            made from, root mean square, as a share of its size.
        latency_ms: The compiler's estimate for one batch, see `profile`; None where no bmodel was made.
        ddr_bytes: Moved between the chip and its memory.
        estimate_note: What the estimate assumes.
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
    """A conversion that is asked for.

    Attributes:
        onnx: The model, static, its batch size that of the bmodel.
        outputs: Those of its outputs that are wanted; what only the others need, such as a decoder, is left out.
        chip: As ``model_deploy --chip`` has it.
        precision: "fp32", "fp16", "bf16" or "int8".
        chip_float: The chip's floating precision beside INT8: "F16" or "F32".
        calibration: For int8.
        lowered: Stop at the operators of the chip, for the interpreter, without a bmodel.
        int8: What the model's card says of quantisation.
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
        """For messages."""
        return f"tpu_mlir, {self.onnx.stem} to {self.chip} {self.precision}"


def convert(environment: Environment, order: TpuMlirRequest) -> tuple[Path, Conversion]:
    """The bmodel (or lowered model) of an order, from the cache where the same has been made before.

    Raises:
        HarnessError: The model has an operator that the compiler refuses, there are no images to calibrate with, a
            tool fails, or the cache cannot be written.
    """
    parts: dict[str, object] = {
        "onnx": file_sha256(order.onnx),
        "outputs": order.outputs,
        "chip": order.chip,
        "precision": order.precision,
        "float": order.chip_float,
        "tool": VERSION,
        "form": FORM,
    }
    if order.precision == "int8":
        parts["int8"] = json.loads(order.int8.model_dump_json())
        parts["calibration"] = _calibration(order).key()
    kind = "lowered" if order.lowered else "bmodel"
    folder = cached_folder(kind, content_key(parts), lambda partial: _Making(environment, order, partial).run())
    record = Conversion.model_validate_json((folder / RECORD).read_bytes())
    return next(folder.glob("*_tpu.mlir")) if order.lowered else folder / BMODEL, record


def _calibration(order: TpuMlirRequest) -> Calibration:
    if order.calibration is None:
        raise HarnessError(
            f"{order.what}: int8 needs images to take its ranges from",
            field="--calibration-images",
            remedy="give a data set: --coco ROOT, or none for the embedded one",
        )
    return order.calibration


class _Making:
    """One conversion, in the folder that becomes its entry of the cache."""

    def __init__(self, environment: Environment, order: TpuMlirRequest, folder: Path) -> None:
        self.environment = environment
        self.order = order
        self.folder = folder
        self.work = folder / "work"

    def run(self) -> None:
        """Fill the folder."""
        order, work = self.order, self.work
        work.mkdir()
        spec = stated_by(load_onnx_checked(order.onnx)).inputs[0]
        shape = tuple(side or 0 for side in spec.shape)
        if not all(shape):
            raise HarnessError(
                f"{order.what}: the compiler needs a static shape, and input '{spec.name}' has {list(spec.shape)}",
                file=order.onnx,
                remedy="export the model with a fixed batch size",
            )
        definition: list[str | Path] = ["--model_name", "m", "--model_def", order.onnx.absolute(), "--mlir", "m.mlir"]
        definition += ["--input_shapes", json.dumps([shape]), "--output_names", ",".join(order.outputs)]
        self._tool("model_transform", [*definition, "--channel_format", "none"])
        graph = read_graph(work / "m.mlir")
        table = float_operators(graph, MODES[order.precision], order.chip_float)
        if order.precision == "int8":
            table |= {operation.name: order.chip_float for operation in named_operators(graph, order.int8.keep_float)}
        losses: dict[str, float] = {}
        if order.lowered or order.precision == "int8":
            self._deploy(table, spec.name, shape[0], "--not_gen_bmodel")
        if order.precision == "int8":  # now, for a bmodel takes the weights of the lowered model with it
            losses = self._losses(graph, self._lowered(), shape[0])
        if not order.lowered:
            self._deploy(table, spec.name, shape[0])
        lowered = self._lowered()
        record = Conversion(
            outputs=output_names(order, graph),
            input=spec.name,
            shape=shape,
            host_operators=tuple(host_operators(lowered)),
            float_operators=table,
            losses=losses,
        )
        if order.lowered:
            for path in (lowered, *work.glob("*_tpu*_weights.npz")):
                path.replace(self.folder / path.name)
        else:
            if not (work / "m.bmodel").is_file():
                raise tool_failed(f"{order.what}: model_deploy", "left no bmodel", work / DEPLOY_LOG)
            estimate = read_estimate(work, order.chip)
            record = record.model_copy(
                update={
                    "latency_ms": estimate.latency_ms,
                    "ddr_bytes": estimate.ddr_bytes,
                    "estimate_note": estimate.note,
                }
            )
            (work / "m.bmodel").replace(self.folder / BMODEL)
        (self.folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        shutil.rmtree(work)

    def _lowered(self) -> Path:
        found = next(self.work.glob("*_tpu.mlir"), None)
        if found is None:
            raise tool_failed(f"{self.order.what}: model_deploy", "left no lowered model", self.work / DEPLOY_LOG)
        return found

    def _losses(self, graph: Graph, lowered: Path, batch_size: int) -> dict[str, float]:
        inputs = islice(_calibration(self.order).inputs(batch_size), IMAGES)
        what = f"{self.order.what}: comparing every tensor with float"
        errors = tensor_errors(self.environment, self.work, "m.mlir", lowered.name, inputs, what)
        return {name.rpartition("_")[0]: loss for name, loss in own_losses(graph, errors).items()}

    def _deploy(self, table: dict[str, str], input_name: str, batch_size: int, *options: str) -> None:
        order = self.order
        arguments: list[str | Path] = ["--mlir", "m.mlir", "--quantize", MODES[order.precision]]
        arguments += ["--chip", order.chip, "--model", "m.bmodel"]
        if table:
            lines = "".join(f"{name} {kind}\n" for name, kind in table.items())
            (self.work / "qtable").write_text(lines, encoding="utf-8")
            arguments += ["--quantize_table", "qtable"]
        if order.precision == "int8":
            arguments += ["--calibration_table", self._ranges(input_name, batch_size)]
        self._tool("model_deploy", [*arguments, *options])

    def _ranges(self, input_name: str, batch_size: int) -> Path:
        """The ranges of every tensor, which serve every chip."""
        calibration = _calibration(self.order)
        model = [file_sha256(self.order.onnx), *self.order.outputs]
        key = {"model": model, "calibration": calibration.key(), "tool": VERSION, "ranges": self.order.int8.ranges}

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
                self.order.int8.ranges,
                "--tune_num",
                "5" if self.order.int8.ranges == "kl" else "0",
                "-o",
                folder / RANGES,
            ]
            self._tool("run_calibration", arguments, f", {len(calibration.image_ids)} images")
            shutil.rmtree(samples)

        return cached_folder("calibration", content_key(key), measure) / RANGES

    def _tool(self, tool: str, arguments: Sequence[str | Path], note: str = "") -> None:
        what = f"{self.order.what}: {tool}{note}"
        command = [self.environment.tool(tool), *arguments]
        run_tool(command, self.work, self.environment.variables(), what, self.order.onnx)


def output_names(order: TpuMlirRequest, graph: Graph) -> dict[str, str]:
    """What tpu_mlir calls each output: the name, "_", and the operator that gives it.

    An output that only passes another tensor on is called as that one; those are known by their place.
    """
    nodes = onnx.load(order.onnx, load_external_data=False).graph.node
    producers = {output: node.op_type for node in nodes for output in node.output}
    called = [graph.operations[name].name for name in graph.returned]
    own = {name: f"{name}_{producers[name]}" for name in order.outputs}
    return {name: own[name] if own[name] in called else called[place] for place, name in enumerate(order.outputs)}
