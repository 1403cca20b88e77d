"""The standard dialect: ONNX with native DeformConv."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnxscript
import torch
from google.protobuf.message import Message
from onnx import ModelProto

import harness
from harness.cards import ModelCard
from harness.devices.base import Exported
from harness.errors import HarnessError
from harness.export.fold import fold_batch_norm
from harness.export.load import stated_by
from harness.export.network import CardNetwork
from harness.files import whole_file
from harness.heads import check_contract
from harness.models import HeadedNetwork
from harness.ops import DCNv2

DIALECT = "standard"

OPSET = 19
"""The first with DeformConv: later ones change no operator used here, and the oldest is read by the most toolchains."""

IR_VERSION = 9
"""The format that opset 19 came with (ONNX 1.14); the exporter's own is newer without need."""


def export_standard(
    module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
) -> Exported:
    """Write a network as one self-contained ONNX file, the same bytes for the same weights and versions.

    Args:
        module: The reference network, float32; it is not changed.
        card: Names, order, layout, activation and size of the tensors.
        path: The file to write, whole or not at all; an older one is replaced.
        batch_size: Of the file; None for any.
        weights_sha256: Of the checkpoint, for the file's metadata.

    Raises:
        HarnessError: The card has no network or no fixed input size, or it is not of this network; the exporter
            fails or writes an invalid model; the file cannot be written.
    """
    if card.network is None:
        raise HarnessError(
            f"the card '{card.name}' has no network to export", field="network", remedy="add [network] with its arch"
        )
    if card.input.keep_res:
        raise HarnessError(
            f"the card '{card.name}' is keep_res, and the standard dialect has a fixed input size",
            field="input.keep_res",
            remedy="use a card with keep_res = false",
        )
    model = _trace(_export_form(module, card), card, batch_size)
    _clean(model)
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(
        model,
        {
            "dialect": DIALECT,
            "architecture": card.network.arch,
            "width": str(card.network.width),
            "weights_sha256": weights_sha256,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxscript": onnxscript.__version__,
            "centernet_conformance": harness.__version__,
        },
    )
    _verify(model, card, path, batch_size)
    with whole_file(path) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
    return Exported(card, DIALECT, module, path)


def _export_form(module: HeadedNetwork, card: ModelCard) -> CardNetwork:
    network = CardNetwork(module, card)
    for part in network.modules():
        if isinstance(part, DCNv2):
            part.decomposed = False
    fold_batch_norm(network)
    return network


def _trace(network: CardNetwork, card: ModelCard, batch_size: int | None) -> ModelProto:
    # torch.export takes an example of one image for a promise that there is never another number.
    sides = (card.input.height, card.input.width)
    shape = (batch_size or 2, 3, *sides) if card.input.layout == "NCHW" else (batch_size or 2, *sides, 3)
    example = torch.zeros(shape, dtype=getattr(torch, card.input.dtype))
    dynamic = ({0: torch.export.Dim("batch")},) if batch_size is None else None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[card.input.name],
                output_names=list(card.output.names),
                dynamic_shapes=dynamic,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise HarnessError(
            f"torch.onnx.export failed: {(str(error) or type(error).__name__).splitlines()[0]}",
            remedy="check that the installed torch and onnxscript are those that pyproject.toml asks for",
        ) from error
    assert program is not None  # None is what the old exporter returns
    return program.model_proto


def _clean(model: ModelProto) -> None:
    """Drop the exporter's notes, which hold stack traces with paths, and give weights their checkpoint's names."""
    _strip(model)
    prefix = "network."
    for named in (*model.graph.initializer, *model.graph.value_info):
        named.name = named.name.removeprefix(prefix)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name.removeprefix(prefix) for name in names]


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                _strip(part)


def _verify(model: ModelProto, card: ModelCard, path: Path, batch_size: int | None) -> None:
    # Some versions of the exporter write operators into opsets that do not have them.
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets != {"": OPSET}:
        raise HarnessError(
            f"the exporter wrote the opsets {opsets}, where {OPSET} was asked for",
            remedy="install the torch and onnxscript that pyproject.toml asks for",
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise HarnessError(f"the exporter wrote an invalid model: {error}") from error
    check_contract(card, stated_by(model), batch_size or 1, path)
