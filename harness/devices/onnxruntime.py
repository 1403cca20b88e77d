"""Device `onnxruntime`: ONNX Runtime on the CPU, or on CUDA where that provider is installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from harness.cards import load_device_card
from harness.cards.device import card_file
from harness.convert.onnxruntime import PRECISE, quantise
from harness.devices.artifact import Artifact, Exported, require_batch_size
from harness.devices.base import RunnerDevice, require_request
from harness.devices.interruption import Stoppable
from harness.devices.link import InProcess
from harness.devices.runners import onnxruntime as runner
from harness.emulation.ascend import runnable_on_host
from harness.emulation.rounding import rounded_to_fp16
from harness.errors import HarnessError
from harness.export.load import is_deformable_conv2d, load_onnx_checked, stated_by
from harness.export.onnx_file import first_line, load_onnx
from harness.types import Outputs

CPU = "CPUExecutionProvider"
NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
"""Texts of ONNX Runtime's errors by which a failed allocation is told from others."""
TERMINATED = "terminate flag"
"""Of ONNX Runtime's error where Ctrl-C ended a run."""
CUDA = "CUDAExecutionProvider"

YIELDING = {"session.force_spinning_stop": "1"}
"""Session option that puts the threads of a model to sleep when its run ends. Without it they turn in a loop for a
while, on the cores of the model that runs next: of two that took turns on two busy cores, each took half as long again
(128 ms in place of 85)."""


class OnnxRuntimeDevice(RunnerDevice):
    """ONNX Runtime; the provider is verified, and falling back to another is an error.

    A float32 model becomes int8 by post-training quantisation (`harness.convert.onnxruntime`). At fp16 it computes in
    float32 and stores float16 between the layers (`harness.emulation.rounding`), as chips do.

    Args:
        name: Of the device, which is that of its card.
        threads: Of an operator; 0 for one on each core.
    """

    def __init__(self, name: str = "onnxruntime", threads: int = 0) -> None:
        super().__init__(load_device_card(card_file(name)))
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
        optimise = True
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
            optimise = False  # lest casts be dropped
            runs = rounded_to_fp16(model).SerializeToString()
            executed["precision"] = "fp16 between the layers, arithmetic in fp32"
        elif found != precision:
            raise HarnessError(
                f"the model computes in {found or 'no floating type'}, and {precision} was asked for",
                file=exported.path,
                field="--precision",
                remedy=f"give an ONNX exported in {precision}",
            )
        spec = session_spec(stated, runs) | self._options(provider)
        return replace(stated, payload=self._load(spec | {"optimise": optimise}, exported.path), executed=executed)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch; C-contiguous images are not copied."""
        with errors_of_model():
            return super().run(artifact, images)

    def time(self, artifact: Artifact, images: NDArray[np.generic], rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs of one batch, taken in the runner."""
        with errors_of_model():
            return super().time(artifact, images, rounds)

    def _options(self, provider: str) -> dict[str, object]:
        entries, settings = PRECISE | YIELDING, {}
        if provider == CUDA:
            entries["session.disable_cpu_ep_fallback"] = "1"  # no operator of a session on CUDA may run on the CPU
            settings["use_tf32"] = "0"  # TF32 is no fp32
        return {"provider": provider, "settings": settings, "threads": self.threads, "entries": entries}

    def _load(self, spec: dict[str, Any], path: Path) -> InProcess:
        provider = spec["provider"]
        try:
            link = self.open(runner, spec)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise HarnessError(
                f"ONNX Runtime cannot run the model on {provider}: {str(error).splitlines()[0]}",
                file=path,
                remedy="check that the installed onnxruntime supports every operator of the model",
            ) from error
        if link.facts["provider"] != provider:
            raise HarnessError(
                f"{provider} was asked for, and ONNX Runtime fell back to {link.facts['provider']}",
                file=path,
                remedy="install what the provider needs (driver, CUDA, cuDNN), or onnxruntime without it",
            )
        return link


def session_spec(stated: Artifact, model: Path | bytes) -> dict[str, Any]:
    """Return the spec of a session on the CPU that runs every node as it is written.

    Args:
        stated: Names of the model's input and outputs.
        model: File or content.
    """
    return {
        "model": str(model) if isinstance(model, Path) else model,
        "input": stated.inputs[0].name,
        "outputs": [output.name for output in stated.outputs],
        "provider": CPU,
        "settings": {},
        "threads": 0,
        "entries": {},
        "optimise": False,
    }


def run_session(session: ort.InferenceSession, name: str, images: NDArray[np.generic]) -> Outputs:
    """Return every output of a session on a batch, by its own names; `name` is that of the input."""
    names, options = [output.name for output in session.get_outputs()], ort.RunOptions()
    options.log_severity_level = runner.FATAL
    with Stoppable(partial(setattr, options, "terminate", True)), errors_of_model():
        return dict(zip(names, session.run(names, {name: images}, options), strict=True))


@contextmanager
def errors_of_model(file: Path | None = None) -> Iterator[None]:
    """Say of what ONNX Runtime cannot run, or has no memory for, that the model asks for it; no port deviates by that.

    Raises:
        HarnessError: ONNX Runtime cannot run the model of the block, or allocate what it asks for.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY):
            raise HarnessError(
                f"the model asks for more memory than there is: {first_line(error)}",
                file=file,
                field="--onnx",
                remedy="run it where there is more memory, with a smaller batch size, or export a smaller model",
            ) from error
        if type(error).__module__.startswith("onnxruntime") and TERMINATED not in str(error):
            raise HarnessError(
                f"ONNX Runtime cannot run the model: {first_line(error)}",
                file=file,
                field="--onnx",
                remedy="export the model again, and run it by ONNX Runtime alone",
            ) from error
        raise


def open_unoptimised(model: ModelProto) -> ort.InferenceSession:
    """Open a session on the CPU that runs every node as it is written: none fused, none rearranged, no cast dropped."""
    options = ort.SessionOptions()
    options.log_severity_level = runner.FATAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, [CPU])


def run_unoptimised(path: Path, name: str, images: NDArray[np.generic]) -> Outputs:
    """Run an ONNX on the CPU with every node as it is written: none fused, none rearranged.

    Args:
        path: A file that `OnnxRuntimeDevice.convert` takes.
        name: Of the input.
        images: One batch.
    """
    return run_session(open_unoptimised(runnable_on_host(load_onnx(path), path)), name, images)
