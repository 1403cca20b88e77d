"""Reading of an ONNX file and of the weights that lie beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from harness.errors import HarnessError
from harness.files import is_file, open_regular, read_regular

ONNX_BYTES = 2**31 - 1
"""Most that protobuf, the form of an ONNX, can hold; weights beside it come on top."""
DATA_BYTES = 2**36
"""Most that a file of weights beside an ONNX may have."""
REMEDY = "check the path, and compare the file's size with its source"


def load_onnx(path: Path) -> ModelProto:
    """Load an ONNX file with the weights that lie beside it; nothing is checked but what is read.

    Raises:
        HarnessError: The file is missing, truncated or no ONNX, or its weights are not whole files below its folder.
    """
    content = read_regular(path, None, ONNX_BYTES, cause="cannot read the ONNX", remedy=REMEDY)
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise HarnessError("the file is truncated or no ONNX", file=path, remedy=REMEDY) from error
    try:
        for file in external_files(model, path):
            if not is_file(file):
                raise ValueError(f"its weights should lie in '{file.name}' beside it, which is no regular file")
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, RuntimeError, MemoryError, OverflowError, onnx.checker.ValidationError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise HarnessError(f"cannot read the ONNX: {reason}", file=path, remedy=REMEDY) from error
    return model


def external_files(model: ModelProto, path: Path) -> list[Path]:
    """Return the files beside an ONNX in which its weights lie, sorted.

    Raises:
        ValueError: One is said to lie elsewhere than below the folder of the ONNX, or at no place in a file.
    """
    found = set()
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            place = PurePosixPath(ExternalDataInfo(tensor).location)
            if place.is_absolute() or ".." in place.parts or not place.parts:
                raise ValueError(f"'{tensor.name}' is said to lie in '{place}', outside the folder of the ONNX")
            found.add(path.parent / place)
    return sorted(found)


def onnx_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of an ONNX file, and of the files of weights beside it where there are any.

    Raises:
        HarnessError: See `load_onnx`.
    """
    content = read_regular(path, None, ONNX_BYTES, cause="cannot read the ONNX", remedy=REMEDY)
    digest = hashlib.sha256(content)
    try:
        beside = external_files(onnx.load_model_from_string(content), path)
    except (DecodeError, ValueError) as error:
        raise HarnessError(f"cannot read the ONNX: {first_line(error)}", file=path, remedy=REMEDY) from error
    for file in beside:
        with open_regular(file, None, DATA_BYTES, remedy=REMEDY) as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())  # type: ignore[arg-type]
    return digest.hexdigest()


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the tensors of a graph and of the graphs within its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def tensor_sizes(graph: GraphProto) -> Iterator[tuple[str, int]]:
    """Yield name and least bytes of every tensor whose shape is stated; an open side counts as 1."""
    for tensor in graph.initializer:
        yield tensor.name, math.prod(tensor.dims) * _itemsize(tensor.data_type)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sides = [side.dim_value for side in kind.shape.dim if side.HasField("dim_value")]
        yield value.name, math.prod(sides) * _itemsize(kind.elem_type)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from tensor_sizes(inner)


def _itemsize(kind: int) -> int:
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except KeyError:  # no tensor, or of a type that NumPy has not
        return 1


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, at most 200 characters, or the name of its kind."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]
