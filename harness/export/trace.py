"""The steps of an export that several dialects share: the network in the form to export, and its trace as ONNX."""

from __future__ import annotations

import warnings

import torch
from google.protobuf.message import Message
from onnx import ModelProto

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.centernet.ops import DCNv2
from harness.errors import HarnessError
from harness.export.fold import fold_batch_norm
from harness.export.network import CardNetwork


def export_form(module: HeadedNetwork, card: ModelCard, dialect: str) -> CardNetwork:
    """Copy a network in the form to export: input and outputs of its card, batch norm folded.

    Args:
        module: The reference network, float32; it is not changed.
        card: The contract of the model.
        dialect: Name of the dialect, for messages.

    Raises:
        HarnessError: The card has no network or no fixed input size, or it is not of this network.
    """
    if card.network is None:
        raise HarnessError(
            f"the card '{card.name}' has no network to export", field="network", remedy="add [network] with its arch"
        )
    if card.input.keep_res:
        raise HarnessError(
            f"the card '{card.name}' is keep_res, and the {dialect} dialect has a fixed input size",
            field="input.keep_res",
            remedy="use a card with keep_res = false",
        )
    network = CardNetwork(module, card)
    for part in network.modules():
        if isinstance(part, DCNv2):
            part.decomposed = False
    fold_batch_norm(network)
    return network.eval()


def example_input(card: ModelCard, batch_size: int) -> torch.Tensor:
    """Make a tensor of zeros with the shape and dtype of the card's input."""
    sides = (card.input.height, card.input.width)
    shape = (batch_size, 3, *sides) if card.input.layout == "NCHW" else (batch_size, *sides, 3)
    return torch.zeros(shape, dtype=getattr(torch, card.input.dtype))


def trace_onnx(network: CardNetwork, card: ModelCard, batch_size: int | None, opset: int) -> ModelProto:
    """Trace a network as ONNX, without the exporter's notes.

    Raises:
        HarnessError: The exporter fails.
    """
    # torch.export takes an example of one image for a promise that there is never another number.
    example = example_input(card, batch_size or 2)
    dynamic = ({0: torch.export.Dim("batch")},) if batch_size is None else None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
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
    model = program.model_proto
    _clean(model)
    return model


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
