"""The exporter that every ONNX dialect is an instance of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxscript
import torch
from onnx import ModelProto

import harness
from harness.cards import ModelCard
from harness.centernet.heads import check_contract
from harness.centernet.networks import HeadedNetwork
from harness.devices.artifact import Exported
from harness.errors import HarnessError
from harness.export.load import checkable, stated_by
from harness.export.network import CardNetwork
from harness.export.trace import export_form, trace_onnx
from harness.files import whole_file


def _leave(network: CardNetwork, card: ModelCard, batch_size: int | None) -> None:
    """Leave a network as it is."""


def _keep(model: ModelProto) -> None:
    """Leave a model as it is."""


@dataclass(frozen=True, slots=True)
class OnnxDialect:
    """Writes a network as one self-contained ONNX file, the same bytes for the same weights and versions.

    Attributes:
        name: Name of the dialect.
        opset: Opset of the file.
        ir_version: Version of the ONNX format of the file.
        traced_opset: Opset that the exporter of PyTorch is asked for; None for `opset`.
        prepare: Changes the copy of the network that is traced, in place.
        rewrite: Changes the traced model, in place.
    """

    name: str
    opset: int
    ir_version: int
    traced_opset: int | None = None
    prepare: Callable[[CardNetwork, ModelCard, int | None], None] = _leave
    rewrite: Callable[[ModelProto], None] = _keep

    def __call__(
        self, module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
    ) -> Exported:
        """Export a network.

        Args:
            module: The reference network, float32; it is not changed.
            card: Names, order, layout, activation and size of the tensors.
            path: The file to write, whole or not at all; an older one is replaced.
            batch_size: Batch size of the file; None for any.
            weights_sha256: SHA-256 of the checkpoint, for the file's metadata.

        Raises:
            HarnessError: The card has no network or no fixed input size, or it is not of this network; the dialect
                cannot express the network or the batch size; the exporter fails or writes an invalid model; the file
                cannot be written.
        """
        network = export_form(module, card, self.name)
        self.prepare(network, card, batch_size)
        model = trace_onnx(network, card, batch_size, self.traced_opset or self.opset)
        self.rewrite(model)
        model.ir_version = self.ir_version
        self._describe(model, card, weights_sha256)
        self._verify(model, card, path, batch_size or 1)
        with whole_file(path) as partial:
            partial.write_bytes(model.SerializeToString(deterministic=True))
        return Exported(card, self.name, module, path)

    def _describe(self, model: ModelProto, card: ModelCard, weights_sha256: str) -> None:
        assert card.network is not None  # else there was nothing to export
        onnx.helper.set_model_props(
            model,
            {
                "dialect": self.name,
                "architecture": card.network.arch,
                "width": str(card.network.width),
                "weights_sha256": weights_sha256,
                "torch": torch.__version__,
                "onnx": onnx.__version__,
                "onnxscript": onnxscript.__version__,
                "centernet_conformance": harness.__version__,
            },
        )

    def _verify(self, model: ModelProto, card: ModelCard, path: Path, batch_size: int) -> None:
        # Some versions of the exporter write operators into opsets that do not have them.
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        if opsets != {"": self.opset}:
            raise HarnessError(
                f"the exporter wrote the opsets {opsets}, where {self.opset} was asked for",
                remedy="install the torch and onnxscript that pyproject.toml asks for",
            )
        try:
            onnx.checker.check_model(checkable(model), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise HarnessError(f"the exporter wrote an invalid model: {error}") from error
        check_contract(card, stated_by(model), batch_size, path)
