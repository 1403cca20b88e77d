"""The TorchScript dialect: a traced network, for toolchains that read PyTorch's own format."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import torch

from harness.cards import ModelCard
from harness.centernet.networks import HeadedNetwork
from harness.devices.artifact import Exported
from harness.export.trace import example_input, export_form
from harness.files import whole_file

DIALECT = "torchscript"


def export_torchscript(
    module: HeadedNetwork, card: ModelCard, path: Path, *, batch_size: int | None, weights_sha256: str
) -> Exported:
    """Write a network as a trace of `torch.jit.trace`, DCNv2 as ``torchvision::deform_conv2d``.

    Args:
        module: The reference network, float32; it is not changed.
        card: Order, layout, activation and size of the tensors.
        path: The file to write, whole or not at all; an older one is replaced.
        batch_size: Batch size of the traced example; the toolchains are told the real one.
        weights_sha256: SHA-256 of the checkpoint, kept in the file as the extra file ``weights_sha256``.

    Raises:
        HarnessError: The card has no network or no fixed input size, or it is not of this network; the file cannot
            be written.
    """
    network = export_form(module, card, DIALECT)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, (example_input(card, batch_size or 1),), check_trace=False
        )
    saved = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, saved, _extra_files={"weights_sha256": weights_sha256})
    with whole_file(path) as partial:
        _write_without_traces(saved, partial)
    return Exported(card, DIALECT, module, path)


def _write_without_traces(saved: io.BytesIO, path: Path) -> None:
    """Copy an archive without its debug records, which hold the paths of this machine."""
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as written:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                written.writestr(zipfile.ZipInfo(entry.filename), archive.read(entry))
