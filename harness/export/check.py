"""Check of an exported file against its network, before any vendor's tool reads it."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime as ort
import torch

from harness.devices.artifact import Exported
from harness.emulation.ascend import runnable_on_host
from harness.errors import HarnessError
from harness.export.network import CardNetwork
from harness.export.onnx_file import load_onnx
from harness.export.trace import example_input

ALLOWED = 1e-4
"""Allowed difference relative to each output's largest magnitude: float32 in another order of operations."""


def check_export(exported: Exported, batch_size: int) -> None:
    """Run an exported file and its network on the same noise, and compare the outputs.

    Args:
        exported: The file with the network that it was made from.
        batch_size: Batch size of the file.

    Raises:
        HarnessError: An output of the file differs from the network's.
    """
    card, path = exported.one_stage, exported.path
    assert exported.module is not None
    assert path is not None
    example = example_input(card, batch_size)
    noise = np.random.default_rng(0).integers(0, 256, example.shape)
    if example.dtype == torch.uint8:
        images = torch.from_numpy(noise.astype(np.uint8))
    else:  # mean and spread are those of normalised images
        images = torch.from_numpy((noise / 73.9 - 1.725).astype(np.float32))
    with torch.inference_mode():
        expected = [output.numpy() for output in CardNetwork(exported.module, card)(images)]
        got = _run_torchscript(exported, images) if exported.dialect == "torchscript" else _run_onnx(exported, images)
    for name, own, golden in zip(card.output.names, got, expected, strict=True):
        difference = float(np.abs(own - golden).max()) / float(np.abs(golden).max())
        if not difference <= ALLOWED:
            raise HarnessError(
                f"the {exported.dialect} export computes '{name}' otherwise than the network: off by "
                f"{difference:.2e} of its magnitude, allowed {ALLOWED:.0e}",
                file=path,
                remedy="report it: this is a fault of the exporter, not of your model or device",
            )


def _run_onnx(exported: Exported, images: torch.Tensor) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    assert exported.path is not None
    model = runnable_on_host(load_onnx(exported.path), exported.path)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(exported.one_stage.output.names), {exported.one_stage.input.name: images.numpy()})
    return list(found)


def _run_torchscript(
    exported: Exported, images: torch.Tensor
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.jit.load(str(exported.path))  # type: ignore[no-untyped-call]
    return [output.numpy() for output in network(images)]
