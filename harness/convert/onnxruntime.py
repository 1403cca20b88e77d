"""INT8 for ONNX Runtime: QuantizeLinear and DequantizeLinear around its operators, ranges by percentile.

As for Sophon's chips (`harness.convert.tpu_mlir.graph.float_operators`), some operators stay in float: the heads as a
whole, and the deformable convolutions with all operators that compute their offsets and mask. A single scale for
offsets in pixels and a mask of 0 to 1, or for a heatmap of logits, leaves neither exact.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import GraphProto, NodeProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.cache import cached_folder, content_key
from harness.cards.schema import Record
from harness.convert.walk import serving_one_output, walk_back
from harness.data.calibration import Calibration
from harness.devices.artifact import Exported
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked
from harness.export.onnx_file import first_line
from harness.files import file_sha256

FORM = 1
"""Version of the quantisation, part of the cache key; raise it with every change."""
PERCENTILE = 99.999
"""Percentage of the values of each tensor that its range covers: the default of ONNX Runtime."""
QUANTISED = ("Conv", "Relu", "Clip", "Add", "MaxPool", "Concat")
"""Operators of CenterNets with int8 kernels in ONNX Runtime on a CPU, and the activations that they absorb."""
MODEL, RECORD = "model.onnx", "record.json"
PRECISE = {"session.x64quantprecision": "1"}
"""Session options; without them, products of int8 saturate on x86 processors that have no VNNI."""
logger = logging.getLogger(__name__)


class Quantised(Record):
    """Record of a quantised model.

    Attributes:
        operators: Number of operators that execute in int8, as ONNX Runtime fuses them, by kind.
        kept: Nodes of the ONNX that stay in float by design.
    """

    operators: dict[str, int]
    kept: tuple[str, ...]


def quantise(exported: Exported, batch_size: int) -> tuple[Path, Quantised]:
    """Quantise a model to int8, or take the result from the cache.

    Args:
        exported: An ONNX in float32.
        batch_size: Batch size of the calibration, which a static model prescribes.

    Raises:
        HarnessError: There are no calibration images, or ONNX Runtime cannot quantise the model.
    """
    assert exported.path is not None
    path, calibration = exported.path, exported.calibration
    if calibration is None:
        raise HarnessError(
            "int8 needs images to take its ranges from",
            file=path,
            field="--calibration-images",
            remedy="give a data set: --coco ROOT, or none for the embedded one",
        )
    parts = {
        "onnx": file_sha256(path),
        "calibration": calibration.key(),
        "batch size": batch_size,
        "tool": ort.__version__,
        "form": FORM,
    }

    def make(folder: Path) -> None:
        logger.info("onnxruntime, %s to int8: calibrating, %s images", path.stem, len(calibration.image_ids))
        _quantise(path, CalibrationBatches(exported, calibration, batch_size), folder)

    folder = cached_folder("onnxruntime-int8", content_key(parts), make)
    return folder / MODEL, Quantised.model_validate_json((folder / RECORD).read_bytes())


class CalibrationBatches(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Calibration batches for `quantize_static`, read one at a time to hold only one in memory."""

    def __init__(self, exported: Exported, calibration: Calibration, batch_size: int) -> None:
        self.name = exported.one_stage.input.name
        self.count = -(-len(calibration.image_ids) // batch_size)
        self._batches = calibration.inputs(batch_size)
        self._left = 0

    def __len__(self) -> int:
        return self.count

    def set_range(self, start_index: int, end_index: int) -> None:
        """Allow `get_next` to give ``end_index - start_index`` more batches."""
        self._left = end_index - start_index

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch; None at the end of the range."""
        if not self._left:
            return None
        self._left -= 1
        return {self.name: next(self._batches)}


def _quantise(path: Path, samples: CalibrationBatches, folder: Path) -> None:
    model = load_onnx_checked(path)
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{place}"
    kept = float_nodes(model.graph)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that our exports have had
    try:
        with contextlib.redirect_stdout(io.StringIO()), _temporary_files_in(folder):
            quantize_static(
                model,
                folder / MODEL,
                samples,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibStridedMinMax": 1, "CalibPercentile": PERCENTILE},
            )
    except (HarnessError, OSError):  # the latter of a full disk, which is told with the place
        raise
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise HarnessError(
            f"ONNX Runtime cannot quantise the model: {(str(error) or type(error).__name__).splitlines()[0]}",
            file=path,
            remedy="check that the model runs in fp32, or quantise it elsewhere and give that ONNX",
        ) from error
    finally:
        root.setLevel(level)
    record = Quantised(operators=_executing(folder / MODEL), kept=tuple(kept))
    (folder / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let ONNX Runtime put its temporary models into a folder, with which they go should this process be killed."""
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = usual


def _executing(path: Path) -> dict[str, int]:
    """Count the int8 operators in the graph that ONNX Runtime executes, by kind.

    Raises:
        HarnessError: There are none: the model would run in float under the name of int8; or the disk is full.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    fused = path.with_name("fused.onnx")
    options.optimized_model_filepath = str(fused)
    for name, value in PRECISE.items():
        options.add_session_config_entry(name, value)
    try:
        ort.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise HarnessError(
            f"ONNX Runtime cannot write the graph of the quantised model that it executes: {first_line(error)}",
            file=path.parent.parent,
            remedy="check that the disk has space, or set CENTERNET_CONFORMANCE_CACHE to a folder that has it",
        ) from error
    nodes = onnx.load(fused).graph.node
    fused.unlink()
    found = Counter(node.op_type for node in nodes if node.op_type.startswith("QLinear"))
    if not found:
        raise HarnessError("ONNX Runtime runs nothing of the quantised model in int8", file=path)
    return dict(sorted(found.items()))


def float_nodes(graph: GraphProto) -> list[str]:
    """Return names of the nodes that stay in float: heads, and deformable convolutions with offsets and mask."""
    producers = {output: node for node in graph.node for output in node.output}
    kept = {node.name for node in _heads(graph, producers)}
    for node in graph.node:
        if node.op_type == "DeformConv":
            steering = [node.input[2], *node.input[4:5]]
        elif node.op_type == "GridSample":
            steering = [node.input[1]]
            kept |= {user.name for user in _products(graph, node)}
        else:
            continue
        kept |= {node.name} | {before.name for before in _back_to_convolutions(steering, producers)}
    return [node.name for node in graph.node if node.name in kept]


def _heads(graph: GraphProto, producers: dict[str, NodeProto]) -> Iterator[NodeProto]:
    """Yield the nodes that serve one output only; for a single unconcatenated output, its last convolutions."""
    outputs = [output.name for output in graph.output]
    while len(outputs) == 1 and producers[outputs[0]].op_type in ("Concat", "Transpose"):
        yield producers[outputs[0]]
        outputs = list(producers[outputs[0]].input)
    if len(outputs) == 1:
        yield from _back_to_convolutions(outputs, producers)
    else:
        yield from serving_one_output(((node, node.output, node.input) for node in graph.node), outputs)


def _products(graph: GraphProto, sampler: NodeProto) -> Iterator[NodeProto]:
    """Yield the users of the samples: the product with the mask, and the convolution that sums them."""
    own = set(sampler.output)
    for node in graph.node:  # the order is topological
        if own.isdisjoint(node.input):
            continue
        yield node
        if node.op_type != "Conv":
            own |= set(node.output)


def _back_to_convolutions(start: Iterable[str], producers: dict[str, NodeProto]) -> list[NodeProto]:
    """Return the nodes that compute some tensors, back to the nearest convolutions, these included."""
    return walk_back(start, producers.get, lambda node: () if node.op_type == "Conv" else node.input)
