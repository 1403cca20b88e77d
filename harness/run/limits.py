"""What the heads of a right port may differ by from the reference's, on the very images that they are of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from harness.cards.tolerances import load_tolerance
from harness.centernet.heads import read_heads
from harness.checks.heads import head_scales
from harness.devices.onnxruntime import open_unoptimised, run_session
from harness.emulation.ascend import runnable_on_host
from harness.export.fold import fold_every_batch_norm
from harness.export.network import CardNetwork
from harness.run.subject import Subject
from harness.types import Heads

ROUNDED = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Types that parameters are stored in; at other precisions they are what they were."""


class HeadLimits:
    """What the heads of a port may differ by, image by image.

    It has two parts. What rounding between the layers does depends on the image as much as on the network (a factor of
    8 between images of the embedded set); how far it carries, float32's own error on these images says. That is one
    draw of a random quantity, and below float32 the larger of two: of the network as it is, and with batch norm folded.
    Neither has anything of the rounding of weights and biases, which float32 holds as they are. But that is the same in
    every port of a precision, and is measured: by the reference itself with its parameters rounded.

    Args:
        subject: The model.
        precision: Of the port.
    """

    def __init__(self, subject: Subject, precision: str) -> None:
        self.length = subject.accumulation_length
        self.tolerance, self.fp32 = load_tolerance(precision), load_tolerance("fp32")
        self._folded = self._rounded = None
        if precision in ROUNDED:
            self._folded = with_parameters_as(torch.float32, subject)
            self._rounded = with_parameters_as(ROUNDED[precision], subject)

    def of(self, images: NDArray[np.generic], golden: Heads, exact: Heads) -> dict[str, float]:
        """Largest absolute difference of each head on one batch.

        Args:
            images: As the card has them.
            golden: The reference's heads of it.
            exact: `Subject.second_opinion` of it.
        """
        draws = [golden] if self._folded is None else [golden, self._folded(images)]
        scales = [head_scales(draw, exact, self.fp32, self.length) for draw in draws]
        limits = {name: self.tolerance.allowed(self.length, max(s[name] for s in scales)) for name in scales[0]}
        if self._rounded is not None:
            for name, head in self._rounded(images).items():
                limits[name] += float(np.abs(head - golden[name]).max())
        return limits


def with_parameters_as(kind: torch.dtype, subject: Subject) -> Callable[[NDArray[np.generic]], Heads] | None:
    """The network in float32 with its parameters rounded, batch norm folded into them, as compilers do.

    None where a parameter overflows: no excuse for a port, and torchvision's DCN does not survive infinite offsets.

    Args:
        kind: What they are rounded to.
        subject: The model.

    Returns:
        From a batch as the card has it to its heads.
    """
    card = subject.card
    if subject.module is not None:
        network = CardNetwork(subject.module, card)
        fold_every_batch_norm(network)
        for parameter in network.parameters():
            parameter.data = parameter.data.to(kind).float()
            if not bool(torch.isfinite(parameter).all()):
                return None

        def by_network(images: NDArray[np.generic]) -> Heads:
            with torch.inference_mode():
                tensors = network(torch.from_numpy(np.ascontiguousarray(images)))
            named = {name: tensor.numpy() for name, tensor in zip(card.output.names, tensors, strict=True)}
            return read_heads(card, named, len(images))

        return by_network
    assert subject.onnx is not None
    model = runnable_on_host(onnx.load(subject.onnx), subject.onnx)
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            values = torch.from_numpy(numpy_helper.to_array(constant).copy()).to(kind).float()
            if not bool(torch.isfinite(values).all()):
                return None
            constant.CopyFrom(numpy_helper.from_array(values.numpy(), constant.name))
    session = open_unoptimised(model)
    return lambda images: read_heads(card, run_session(session, card.input.name, images), len(images))
