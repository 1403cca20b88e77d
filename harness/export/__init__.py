"""Export of the reference networks, one file for each dialect."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.devices.artifact import Exported
from harness.export.ascend import export_ascend
from harness.export.decomposed import export_decomposed
from harness.export.load import load_onnx_checked
from harness.export.standard import export_standard
from harness.export.torchscript import export_torchscript


class Exporter(Protocol):
    """A function that writes a network in one dialect; see `OnnxDialect.__call__` for the arguments."""

    def __call__(
        self, module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
    ) -> Exported:
        """Write a network to `path`."""


DIALECTS: dict[str, tuple[Exporter, str]] = {
    "standard": (export_standard, "onnx"),
    "decomposed": (export_decomposed, "onnx"),
    "ascend": (export_ascend, "onnx"),
    "torchscript": (export_torchscript, "pt"),
}
"""Exporter and file suffix of each dialect."""

DYNAMIC = ("standard", "ascend")
"""Dialects whose files take every batch size."""

__all__ = [
    "DIALECTS",
    "DYNAMIC",
    "Exporter",
    "export_ascend",
    "export_decomposed",
    "export_standard",
    "export_torchscript",
    "load_onnx_checked",
]
