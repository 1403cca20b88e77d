"""Chips of Ascend, emulated: the graph that ATC gets, on ONNX Runtime, with float16 where the chips store it."""

from __future__ import annotations

from dataclasses import replace

import onnxruntime as ort
from onnx import ModelProto

from harness.cards import load_device_card
from harness.cards.device import card_file
from harness.devices.artifact import Artifact, Exported, Findings, require_batch_size
from harness.devices.base import RunnerDevice, require_request
from harness.devices.onnxruntime import session_spec
from harness.devices.runners import onnxruntime as runner
from harness.emulation.ascend import runnable
from harness.errors import HarnessError
from harness.export.load import is_deformable_conv2d, load_onnx_checked, stated_by

COORDINATES = "sampling coordinates"
"""Not known of the chips: whether DeformableOffsets computes them in float32 or in float16."""


class EmulatedAscend(RunnerDevice):
    """Arithmetic that ATC chooses by default; needs nothing of CANN, and says nothing about speed.

    Args:
        name: Of the device, which is that of its card.
    """

    def __init__(self, name: str) -> None:
        super().__init__(load_device_card(card_file(name)))

    def check(self) -> None:
        """Accept every host: nothing is missing where this module could be imported."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Write the chip's arithmetic into a copy of the graph, and open a session on it.

        Raises:
            HarnessError: ATC would not read the file, or it is of another batch size or not float32.
        """
        require_request(self.card, exported, precision)
        assert exported.path is not None  # the dialect is a file's
        model = load_onnx_checked(exported.path)
        stated = stated_by(model)
        require_batch_size(stated.batch_size, batch_size, exported.path)
        found = stated.executed["precision"]
        if found != "fp32":
            raise HarnessError(
                f"the model computes in {found or 'no floating type'}, and ATC takes float32 and rounds it itself",
                file=exported.path,
                remedy="give an ONNX exported in fp32",
            )
        artifact = self._artifact(exported, model, stated, precision, fp16_coordinates=False)
        if precision != "fp16" or not any(is_deformable_conv2d(node) for node in model.graph.node):
            return artifact
        other = self._artifact(exported, model, stated, precision, fp16_coordinates=True)
        return replace(artifact, findings=Findings(readings={f"{COORDINATES} in fp16": other}))

    def _artifact(
        self, exported: Exported, model: ModelProto, stated: Artifact, precision: str, *, fp16_coordinates: bool
    ) -> Artifact:
        fp16 = precision == "fp16"
        emulated = runnable(model, fp16=fp16, fp16_coordinates=fp16_coordinates, file=exported.path)
        executed = {
            "provider": f"ONNX Runtime {ort.__version__}, CPU, no optimisations: emulated",
            "precision": precision,
            "between layers": "float16, saturating at 65504" if fp16 else "float32",
            "inside layers": "float32, summed in float32",
            COORDINATES: "float16" if fp16_coordinates else "float32",
        }
        link = self.open(runner, session_spec(stated, emulated.SerializeToString()))
        return replace(stated, payload=link, executed=executed)
