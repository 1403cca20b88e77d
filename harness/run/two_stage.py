"""A two-stage detector under test, and its reference."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from harness.cards import AnyCard, DeviceCard, TwoStageCard
from harness.cards.tolerances import DetectionTolerance, Tolerance, load_tolerance
from harness.centernet2 import CenterNet2, create_centernet2
from harness.centernet2.inference import require_settings
from harness.centernet2.proposals import Proposed, before_nms
from harness.centernet2.weights import load_weights
from harness.checks.two_stage import Candidates, close_proposals, within_image
from harness.data.calibration import Calibration
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.errors import HarnessError
from harness.files import file_sha256
from harness.run.subject import Subject, load_subject
from harness.types import UInt8

ONLY_TORCH = "a two-stage detector is not exported: its second stage looks at as many boxes as the image has"


@dataclass(frozen=True, slots=True)
class TwoStageSubject:
    """The model under test.

    Attributes:
        card: Its contract.
        module: The PyTorch network in evaluation mode, float32.
        sha256: Of the weights.
    """

    card: TwoStageCard
    module: CenterNet2
    sha256: str
    onnx: None = None
    onnx_sha256: None = None

    @property
    def weights_sha256(self) -> str:
        """Of the PyTorch weights."""
        return self.sha256

    def exported(
        self, device: DeviceCard, folder: Path, batch_size: int, calibration: Calibration | None = None
    ) -> Exported:
        """The model for a device that takes the PyTorch network; nothing is written.

        Raises:
            HarnessError: The device takes a file.
        """
        del folder, batch_size, calibration
        if device.dialect != "module":
            raise HarnessError(
                f"device '{device.name}' does not take the PyTorch network, and {ONLY_TORCH}",
                field="--device",
                remedy="choose --device torch",
            )
        return Exported(self.card, "module", module=self.module)


class TwoStageReference:
    """The golden detections, and candidates of images for which a port's stand out.

    Args:
        subject: The model.
        precision: That the port claims.
    """

    decided_by_ap = False
    batch_size = 1

    def __init__(self, subject: TwoStageSubject, precision: str) -> None:
        self.subject, self.precision = subject, precision
        self.device = TorchDevice()

    @cached_property
    def tolerance(self) -> Tolerance:
        """The tolerance of the port's precision."""
        return load_tolerance(self.precision)

    @torch.no_grad()
    def candidates(self, pixels: UInt8, allowed: DetectionTolerance, *, exact: bool = False) -> Candidates:
        """Return the boxes of one image before any is chosen, of all proposals that a right port may have.

        Args:
            pixels: (3, h, w) uint8 BGR of the network input.
            allowed: What scores and corners may differ by.
            exact: Whether features and heads are computed in float64, as a second opinion on the reference.
        """
        model = self._exact if exact else self.subject.module
        batch, sizes = model.batch([pixels])
        features = model.features(batch)
        [levels] = before_nms(model.settings.proposals, model.heads(features), training=False)
        given = Proposed(*map(torch.cat, zip(*levels, strict=True)))
        rows, sure = close_proposals(model.settings.proposals, given.boxes.numpy(), given.scores.numpy(), allowed)
        [(boxes, scores)] = model.roi_heads.fused(features, [Proposed(given.boxes[rows], given.scores[rows])], sizes)
        return within_image(boxes.float().numpy(), scores.float().numpy(), sure, sizes[0])

    @cached_property
    def _exact(self) -> CenterNet2:
        return copy.deepcopy(self.subject.module).double()


def load_any_subject(card: AnyCard, weights: Path | None, onnx_file: Path | None) -> Subject | TwoStageSubject:
    """Load the model of the options ``--model``, ``--weights`` and ``--onnx``.

    Raises:
        HarnessError: See `load_subject` and `load_two_stage`.
    """
    if isinstance(card, TwoStageCard):
        return load_two_stage(card, weights, onnx_file)
    return load_subject(card, weights, onnx_file)


def load_two_stage(card: TwoStageCard, weights: Path | None, onnx_file: Path | None) -> TwoStageSubject:
    """Load the model of the options ``--model`` and ``--weights``.

    Raises:
        HarnessError: There are no weights, they are not of this network, or an ONNX was given.
    """
    require_settings(card)
    if onnx_file is not None:
        cause = f"'{card.name}' is a two-stage detector, of which no ONNX is taken"
        raise HarnessError(cause, file=onnx_file, field="--onnx", remedy="give --weights FILE.pth and --device torch")
    if weights is None:
        cause = f"model '{card.name}' ships without weights"
        raise HarnessError(cause, field="--weights", remedy="give --weights FILE.pth")
    module = create_centernet2(card.network)
    load_weights(module, weights)
    module.eval().requires_grad_(False)
    return TwoStageSubject(card, module, file_sha256(weights))
