"""From an ONNX to a bmodel: model_transform, run_calibration, model_deploy, each in a folder of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import Field

from harness.cache import cached_folder, content_key, locked
from harness.calibration import Calibration
from harness.cards.schema import Record
from harness.convert.process import run_tool, tool_failed
from harness.convert.tpu_mlir.environment import VERSION, Environment
from harness.convert.tpu_mlir.graph import float_operators, host_operators, read_graph
from harness.convert.tpu_mlir.profile import read_estimate
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.models.weights import file_sha256

MODES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "INT8"}
FORM = 1
"""Counts up when what is kept of a conversion, or how it is made, changes."""
RECORD = "record.json"
BMODEL = "model.bmodel"
RANGES = "calibration_table"


class Conversion(Record):
    """What is kept beside a bmodel.

    Attributes:
        outputs: What tpu_mlir calls each output of the ONNX; a bmodel that casts it adds "_f32" or the like.
        input: The bmodel's name of the input.
        host_operators: Operators that left the chip for the host's CPU.
        float_operators: Operators that do not take the precision of the rest, and theirs.
        latency_ms: The compiler's estimate for one batch, see `profile`.
        flops: Twice the multiplications.
        ddr_bytes: Moved between the chip and its memory.
        estimate_note: What the estimate assumes.
    """

    outputs: dict[str, str]
    input: str
    host_operators: tuple[str, ...]
    float_operators: dict[str, str]
    latency_ms: float
    flops: int
    ddr_bytes: int | None
    estimate_note: str
    tool: str = Field(default=f"tpu_mlir {VERSION}")


@dataclass(frozen=True, slots=True)
class Order:
    """A conversion that is asked for.

    Attributes:
        onnx: The model, static, its batch size that of the bmodel.
        chip: As ``model_deploy --chip`` has it.
        precision: "fp32", "fp16", "bf16" or "int8".
        chip_float: The chip's floating precision beside INT8: "F16" or "F32".
        calibration: For int8.
    """

    onnx: Path
    chip: str
    precision: str
    chip_float: str
    calibration: Calibration | None = None

    @property
    def what(self) -> str:
        """For messages."""
        return f"tpu_mlir, {self.onnx.stem} to {self.chip} {self.precision}"


def convert(environment: Environment, order: Order) -> tuple[Path, Conversion]:
    """The bmodel of an order, from the cache where the same has been made before.

    Raises:
        HarnessError: The model has an operator that the compiler refuses, there are no images to calibrate with, a
            tool fails, or the cache cannot be written.
    """
    parts: dict[str, object] = {
        "onnx": file_sha256(order.onnx),
        "chip": order.chip,
        "precision": order.precision,
        "float": order.chip_float,
        "tool": VERSION,
        "form": FORM,
    }
    calibration = "" if order.precision != "int8" else _calibration(order).key()
    if calibration:
        parts["calibration"] = calibration
    folder = cached_folder(
        "bmodel", content_key(parts), lambda partial: _make(environment, order, calibration, partial)
    )
    record = Conversion.model_validate_json((folder / RECORD).read_bytes())
    return folder / BMODEL, record


def _calibration(order: Order) -> Calibration:
    if order.calibration is None:
        raise HarnessError(
            f"{order.what}: int8 needs images to take its ranges from",
            field="--calibration-images",
            remedy="give a data set: --coco ROOT, or none for the embedded one",
        )
    return order.calibration


def _make(environment: Environment, order: Order, calibration: str, folder: Path) -> None:
    work = folder / "work"
    work.mkdir()
    stated = stated_by(load_onnx_checked(order.onnx))
    shape = [side or 0 for side in stated.inputs[0].shape]
    if not all(shape):
        raise HarnessError(
            f"{order.what}: the compiler needs a static shape, and input '{stated.inputs[0].name}' has {shape}",
            file=order.onnx,
            remedy="export the model with a fixed batch size",
        )
    _run(environment, order, work, "model_transform", ["--model_name", "m", "--model_def", order.onnx.absolute(),
        "--input_shapes", json.dumps([shape]), "--mlir", "m.mlir", "--channel_format", "none"])  # fmt: skip
    graph = read_graph(work / "m.mlir")
    mode = MODES[order.precision]
    table = float_operators(graph, mode, order.chip_float)
    deploy: list[str | Path] = ["--mlir", "m.mlir", "--quantize", mode, "--chip", order.chip, "--model", "m.bmodel"]
    if table:
        (work / "qtable").write_text("".join(f"{name} {kind}\n" for name, kind in table.items()), encoding="utf-8")
        deploy += ["--quantize_table", "qtable"]
    if order.precision == "int8":
        parts = {"onnx": file_sha256(order.onnx), "calibration": calibration, "tool": VERSION}
        ranges = cached_folder(  # the same for every chip
            "calibration",
            content_key(parts),
            lambda partial: _calibrate(environment, order, work, partial, stated.inputs[0].name, shape[0]),
        )
        deploy += ["--calibration_table", ranges / RANGES]
    _run(environment, order, work, "model_deploy", deploy)
    if not (work / "m.bmodel").is_file():
        raise tool_failed(f"{order.what}: model_deploy", "ended well without a bmodel", work / "model_deploy.log")
    record = _record(order, work, table, stated.inputs[0].name)
    shutil.copyfile(work / "m.bmodel", folder / BMODEL)
    shutil.copyfile(work / "model_deploy.log", folder / "model_deploy.log")
    (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    shutil.rmtree(work)


def _calibrate(environment: Environment, order: Order, work: Path, folder: Path, name: str, batch_size: int) -> None:
    calibration = _calibration(order)
    samples = folder / "samples"
    samples.mkdir()
    count = 0
    for count, images in enumerate(calibration.inputs(batch_size), start=1):
        arrays: dict[str, Any] = {name: images}
        np.savez(samples / f"{count:05}.npz", **arrays)
    arguments: list[str | Path] = ["m.mlir", "--dataset", samples, "--input_num", str(count), "-o", folder / RANGES]
    note = f", {len(calibration.image_ids)} images"
    _run(environment, order, work, "run_calibration", arguments, note=note)
    shutil.rmtree(samples)


def _record(order: Order, work: Path, table: dict[str, str], input_name: str) -> Conversion:
    lowered = next(iter(work.glob("*_tpu.mlir")), None)
    if lowered is None:
        raise HarnessError(f"{order.what}: the compiler left no lowered model to look for host operators in", file=work)
    estimate = read_estimate(work, order.chip)
    return Conversion(
        outputs=output_names(order.onnx),
        input=input_name,
        host_operators=tuple(host_operators(lowered)),
        float_operators=table,
        latency_ms=estimate.latency_ms,
        flops=estimate.flops,
        ddr_bytes=estimate.ddr_bytes,
        estimate_note=estimate.note,
    )


def output_names(path: Path) -> dict[str, str]:
    """What tpu_mlir calls each output of an ONNX: the name, "_", and the operator that gives it."""
    graph = onnx.load(path, load_external_data=False).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    return {output.name: f"{output.name}_{producers[output.name]}" for output in graph.output}


def _run(
    environment: Environment, order: Order, work: Path, tool: str, arguments: list[str | Path], note: str = ""
) -> None:
    command = [environment.tool(tool), *arguments]
    run_tool(command, work, environment.variables(), f"{order.what}: {tool}{note}", order.onnx)


__all__ = ["MODES", "Conversion", "Order", "convert", "locked"]
