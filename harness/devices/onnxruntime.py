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
from harness.convert.onnxruntime import PRECISE, quantise
from harness.devices.artifact import Artifact, Exported, require_batch_size
from harness.devices.base import require_request
from harness.emulation.ascend import runnable_on_host
from harness.emulation.rounding import rounded_to_fp16
from harness.errors import HarnessError
from harness.export.load import is_deformable_conv2d, load_onnx_checked, stated_by
from harness.types import Outputs

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class OnnxRuntimeDevice:
    """ONNX Runtime; what it executes on is verified, never fallen back from.

    A float32 model becomes int8 by post-training quantisation (`harness.convert.onnxruntime`). At fp16 it computes in
    float32 and stores float16 between the layers (`harness.emulation.rounding`), as chips do.

    Args:
        threads: Of an operator; 0 for one on each core.
    """

    def __init__(self, threads: int = 0) -> None:
        self.card = load_device_card(CARDS / "onnxruntime.toml")
        self.threads = threads

    def check(self) -> None:
        """Raise HarnessError where the installation of onnxruntime is broken."""
        if not hasattr(ort, "InferenceSession"):
            # What remains when one of two packages that share the folder is uninstalled.
            raise HarnessError(
                "onnxruntime is installed in part only",
                remedy="uninstall onnxruntime and onnxruntime-gpu, then install one of them again",
            )

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Open a session on the exported file, or on what it becomes at another precision.

        Raises:
            HarnessError: The file is no ONNX that ONNX Runtime can run, is of another batch size or precision, or
                would run on another provider than the one asked for; there are no images to calibrate int8 with.
        """
        require_request(self.card, exported, precision)
        assert exported.path is not None  # the dialect is a file's
        model = load_onnx_checked(exported.path)
        stated = stated_by(model)
        require_batch_size(stated.batch_size, batch_size, exported.path)
        found = stated.executed["precision"]
        provider = CUDA if CUDA in ort.get_available_providers() else CPU
        executed = {
            "provider": provider,
            "precision": found,
            "threads": str(self.threads or f"the default of ONNX Runtime on {os.cpu_count()} logical cores"),
            "onnxruntime": ort.__version__,
        }
        options = _options(provider, self.threads)
        runs: Path | bytes = exported.path
        if any(is_deformable_conv2d(node) for node in model.graph.node):
            executed["DeformableConv2D"] = "from standard operators"
            model = runnable_on_host(model, exported.path)
            runs = model.SerializeToString()
            if precision == "int8":
                raise HarnessError(
                    "DeformableConv2D of the Ascend dialect is not quantised here",
                    file=exported.path,
                    field="--precision",
                    remedy="use fp32 or fp16, or an ONNX of the standard dialect",
                )
        if (found, precision) == ("fp32", "int8"):
            runs, record = quantise(exported, stated.batch_size or 1)
            counts = ", ".join(f"{count} x {kind}" for kind, count in record.operators.items())
            executed |= {"precision": "int8", "int8 operators": counts, "kept in float": f"{len(record.kept)} nodes"}
        elif (found, precision) == ("fp32", "fp16"):
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # lest casts be dropped
            runs = rounded_to_fp16(model).SerializeToString()
            executed["precision"] = "fp16 between the layers, arithmetic in fp32"
        elif found != precision:
            raise HarnessError(
                f"the model computes in {found or 'no floating type'}, and {precision} was asked for",
                file=exported.path,
                field="--precision",
                remedy=f"give an ONNX exported in {precision}",
            )
        return replace(stated, payload=_open(runs, exported.path, provider, options), executed=executed)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; C-contiguous images are not copied."""
        return run_artifact(artifact, images)


def _options(provider: str, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    for name, value in PRECISE.items():
        options.add_session_config_entry(name, value)
    if provider == CUDA:  # operators of a session that says CUDA must not run on the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _open(model: Path | bytes, path: Path, provider: str, options: ort.SessionOptions) -> ort.InferenceSession:
    settings = {"use_tf32": "0"} if provider == CUDA else {}  # TF32 is no fp32
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


def run_artifact(artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
    """Outputs of a batch by an artifact whose payload is a session, as the artifact calls them."""
    session: Any = artifact.payload
    outputs = session.run(None, {artifact.inputs[0].name: images})
    return {spec.name: output for spec, output in zip(artifact.outputs, outputs, strict=True)}


def run_session(session: ort.InferenceSession, name: str, images: NDArray[np.generic]) -> Outputs:
    """Every output of a session on a batch, by its own names; `name` is that of the input."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: images}), strict=True))


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
    return run_session(open_unoptimised(runnable_on_host(onnx.load(path), path)), name, images)
