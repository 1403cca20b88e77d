"""What the heads of a right port may differ by from the reference's, on the very images that they are of."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from harness.compare import head_scales, load_tolerance
from harness.devices.onnxruntime import open_unoptimised
from harness.emulation.ascend import runnable_on_host
from harness.export.fold import fold_every_batch_norm
from harness.export.network import CardNetwork
from harness.heads import read_heads
from harness.subject import Subject
from harness.types import Heads, Outputs

ROUNDED = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Types that parameters are stored in; at other precisions they are what they were."""


def head_limits(
    subject: Subject, precision: str, images: NDArray[np.generic], golden: Heads, exact: Heads
) -> dict[str, float]:
    """Largest absolute difference of each head on these images.

    It has two parts. What rounding between the layers does depends on the image as much as on the network (a factor of
    8 between images of the embedded set); how far it carries, float32's own error on these images says. That is one
    draw of a random quantity, and below float32 the larger of two: of the network as it is, and with batch norm folded.
    Neither has anything of the rounding of weights and biases, which float32 holds as they are. But that is the same in
    every port of a precision, and is measured: by the reference itself with its parameters rounded.

    Args:
        subject: The model.
        precision: Of the port.
        images: One batch as the card has it.
        golden: The reference's heads of it.
        exact: `Subject.second_opinion` of it.
    """
    tolerance, length = load_tolerance(precision), subject.accumulation_length
    fp32 = load_tolerance("fp32")
    draws = [head_scales(golden, exact, fp32, length)]
    if precision in ROUNDED:
        folded = with_parameters_as(torch.float32, subject, images)
        draws += [] if folded is None else [head_scales(folded, exact, fp32, length)]
    limits = {name: tolerance.allowed(length, max(draw[name] for draw in draws)) for name in draws[0]}
    if precision in ROUNDED:
        rounded = with_parameters_as(ROUNDED[precision], subject, images)
        for name, head in ({} if rounded is None else rounded.named()).items():
            limits[name] += float(np.abs(head - golden.named()[name]).max())
    return limits


def with_parameters_as(kind: torch.dtype, subject: Subject, images: NDArray[np.generic]) -> Heads | None:
    """Heads in float32 of the network with its parameters rounded, batch norm folded into them, as compilers do.

    None where a parameter overflows: no excuse for a port, and torchvision's DCN does not survive infinite offsets.

    Args:
        kind: What they are rounded to.
        subject: The model.
        images: One batch as the card has it.
    """
    card = subject.card
    outputs: Outputs
    if subject.module is not None:
        module = copy.deepcopy(subject.module)
        fold_every_batch_norm(module)
        for parameter in module.parameters():
            parameter.data = parameter.data.to(kind).float()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
            return None
        network = CardNetwork(module, card).eval()
        with torch.inference_mode():
            tensors = network(torch.from_numpy(np.ascontiguousarray(images)))
        outputs = {name: tensor.numpy() for name, tensor in zip(card.output.names, tensors, strict=True)}
    else:
        assert subject.onnx is not None
        model = runnable_on_host(onnx.load(subject.onnx), subject.onnx)
        for constant in model.graph.initializer:
            if constant.data_type == TensorProto.FLOAT:
                values = torch.from_numpy(numpy_helper.to_array(constant).copy()).to(kind).float()
                if not bool(torch.isfinite(values).all()):
                    return None
                constant.CopyFrom(numpy_helper.from_array(values.numpy(), constant.name))
        session = open_unoptimised(model)
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, {card.input.name: images}), strict=True))
    return read_heads(card, outputs, len(images))
