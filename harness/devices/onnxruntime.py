"""Device `onnxruntime`: ONNX Runtime on the CPU, or on CUDA where that provider is installed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.devices.base import Artifact, Exported, require_batch_size, require_request
from harness.emulation.ascend import runnable_on_host
from harness.errors import HarnessError
from harness.export.load import is_deformable_conv2d, load_onnx_checked, stated_by
from harness.types import Outputs

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class OnnxRuntimeDevice:
    """ONNX Runtime with all its threads; what it executes on is verified, never fallen back from."""

    def __init__(self) -> None:
        self.card = load_device_card(CARDS / "onnxruntime.toml")

    def check(self) -> None:
        """Raise HarnessError where the installation of onnxruntime is broken."""
        if not hasattr(ort, "InferenceSession"):
            # What remains when one of two packages that share the folder is uninstalled.
            raise HarnessError(
                "onnxruntime is installed in part only",
                remedy="uninstall onnxruntime and onnxruntime-gpu, then install one of them again",
            )

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Open a session on the exported file.

        Raises:
            HarnessError: The file is no ONNX that ONNX Runtime can run, is of another batch size or precision, or
                would run on another provider than the one asked for.
        """
        require_request(self.card, exported, precision)
        assert exported.path is not None  # the dialect is a file's
        model = load_onnx_checked(exported.path)
        stated = stated_by(model)
        require_batch_size(stated.batch_size, batch_size, exported.path)
        found = stated.executed["precision"]
        if found != precision:
            raise HarnessError(
                f"the model computes in {found or 'no floating type'}, and {precision} was asked for",
                file=exported.path,
                field="--precision",
                remedy=f"give an ONNX exported in {precision}",
            )
        provider = CUDA if CUDA in ort.get_available_providers() else CPU
        executed = {
            "provider": provider,
            "precision": found,
            "threads": f"the default of ONNX Runtime on {os.cpu_count()} logical cores",
            "onnxruntime": ort.__version__,
        }
        if any(is_deformable_conv2d(node) for node in model.graph.node):
            executed["DeformableConv2D"] = "from standard operators"
            session = _open(runnable_on_host(model, exported.path).SerializeToString(), provider, exported.path)
        else:
            session = _open(exported.path, provider, exported.path)
        return replace(stated, payload=session, executed=executed)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; C-contiguous images are not copied."""
        session: Any = artifact.payload
        outputs = session.run(None, {artifact.inputs[0].name: images})
        return {spec.name: output for spec, output in zip(artifact.outputs, outputs, strict=True)}


def _open(model: Path | bytes, provider: str, path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    settings: dict[str, str] = {}
    if provider == CUDA:
        # TF32 is no fp32, and the operators of a session that says CUDA must not run on the CPU.
        settings["use_tf32"] = "0"
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(model, options, [(provider, settings)], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise HarnessError(
            f"ONNX Runtime cannot run the model on {provider}: {str(error).splitlines()[0]}",
            file=path,
            remedy="check that the installed onnxruntime supports every operator of the model",
        ) from error
    executing = session.get_providers()
    if executing[0] != provider:
        raise HarnessError(
            f"{provider} was asked for, and ONNX Runtime fell back to {executing[0]}",
            file=path,
            remedy="install what the provider needs (driver, CUDA, cuDNN), or onnxruntime without it",
        )
    return session


def open_unoptimised(model: ModelProto) -> ort.InferenceSession:
    """A session on the CPU that runs every node as it is written: none fused, none rearranged, no cast dropped."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, [CPU])


def run_unoptimised(path: Path, name: str, images: NDArray[np.generic]) -> Outputs:
    """Outputs of an ONNX on the CPU with every node run as it is written: none fused, none rearranged.

    Args:
        path: A file that `OnnxRuntimeDevice.convert` takes.
        name: Of the input.
        images: One batch.
    """
    session = open_unoptimised(runnable_on_host(onnx.load(path), path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: images}), strict=True))
