"""The reference: golden heads of any network input, and by how much the heads of a right port may differ from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from harness.cards.tolerances import Tolerance, load_tolerance
from harness.centernet.heads import read_heads
from harness.checks.limits import allowed_differences, head_scales
from harness.devices.artifact import Artifact
from harness.devices.onnxruntime import open_unoptimised, run_session
from harness.emulation.ascend import runnable_on_host
from harness.export.fold import fold_every_batch_norm
from harness.export.network import CardNetwork
from harness.export.onnx_file import load_onnx
from harness.run.subject import Subject, in_batches_of
from harness.types import Heads, Outputs

GOLDEN = "fp32"
"""Precision of the golden heads, whatever precision the port claims."""
ROUNDED = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Types in which a port of a precision stores its parameters; at other precisions they stay as they are."""
AT_ONCE = min(4, os.cpu_count() or 1)
"""Batches that the reference works on at a time: torchvision's deformable convolution uses one thread of the host."""

Images = NDArray[np.generic]
"""A batch (N, ...) of network inputs, as the card has them."""


class Reference:
    """Golden heads, a second opinion on them, and the allowed difference of each head, image by image.

    An ONNX of a static batch size is fed with batches of that size, padded where there are fewer images; callers give
    as many images as they have.

    The allowed difference has two parts. (1) Rounding between layers depends on the image as much as on the network (a
    factor of 8 between images of the embedded set); float32's own error on the same image says how far it carries.
    That is one draw of a random quantity, so below float32 the larger of two estimates counts: of the network as it
    is, and with batch norm folded. (2) Rounding of weights and biases, which float32 does not show, is the same in
    every port of a precision; it is measured by running the reference with its parameters rounded.

    Args:
        subject: The model.
        precision: That the port claims.
    """

    def __init__(self, subject: Subject, precision: str = GOLDEN) -> None:
        self.subject, self.precision = subject, precision
        self.device = subject.reference
        self.batch_size = subject.static_batch or 1

    @cached_property
    def artifact(self) -> Artifact:
        """The model as the reference device runs it: the PyTorch network, or the user's ONNX as it is."""
        exported = self.subject.exported(self.device.card, Path(), self.batch_size)  # neither writes a file
        return self.device.convert(exported, self.batch_size, GOLDEN)

    @cached_property
    def tolerance(self) -> Tolerance:
        """The tolerance of the port's precision."""
        return load_tolerance(self.precision)

    @property
    def decided_by_ap(self) -> bool:
        """Whether AP alone decides on a port: no tolerance of its heads, or no golden heads but its own ONNX's."""
        return not self.tolerance.derivable or self.subject.module is None

    def outputs(self, images: Images) -> Outputs:
        """Outputs of one batch, by name."""
        return in_batches_of(self.subject.static_batch, lambda some: self.device.run(self.artifact, some), images)

    def heads(self, images: Images) -> Heads:
        """Golden heads of one batch."""
        return read_heads(self.subject.card, self.outputs(images), len(images))

    def second_opinion(self, images: Images) -> Heads:
        """Heads of one batch computed in another way, see `Subject.second_opinion`."""
        return self.subject.second_opinion(images)

    def allowed(self, images: Images, golden: Heads, exact: Heads | None = None) -> dict[str, float]:
        """Largest absolute difference of each head on one batch.

        Args:
            images: The batch.
            golden: Its golden heads.
            exact: The second opinion on them; computed where it is not given.
        """
        exact = self.second_opinion(images) if exact is None else exact
        draws = [golden] if self._folded is None else [golden, self._folded(images)]
        length = self.subject.accumulation_length
        scales = [head_scales(draw, exact, load_tolerance(GOLDEN), length) for draw in draws]
        rounded = None if self._rounded is None else self._rounded(images)
        return allowed_differences(self.tolerance, length, scales, golden, rounded)

    @cached_property
    def _folded(self) -> Callable[[Images], Heads] | None:
        return with_parameters_as(torch.float32, self.subject) if self.precision in ROUNDED else None

    @cached_property
    def _rounded(self) -> Callable[[Images], Heads] | None:
        kind = ROUNDED.get(self.precision)
        return None if kind is None else with_parameters_as(kind, self.subject)

    def each(self, run: Callable[[Images], Heads], inputs: Sequence[Images]) -> list[Heads]:
        """Heads of each of several inputs of one image (1, ...), several inputs at a time.

        Args:
            run: `heads` or `second_opinion`.
            inputs: They may differ in size where the card keeps the resolution.
        """
        size = self.batch_size
        chunks = [np.concatenate(list(inputs[i : i + size])) for i in range(0, len(inputs), size)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [single for heads in pool.map(run, chunks) for single in split_samples(heads)]


def split_samples(heads: Heads) -> list[Heads]:
    """Heads (N, ...) of a batch as N heads (1, ...)."""
    count = min(len(values) for values in heads.values())
    return [{name: values[i : i + 1] for name, values in heads.items()} for i in range(count)]


def with_parameters_as(kind: torch.dtype, subject: Subject) -> Callable[[Images], Heads] | None:
    """The network in float32 with its parameters rounded and batch norm folded into them, as compilers do.

    Args:
        kind: Type that the parameters are rounded to.
        subject: The model.

    Returns:
        A function from a batch to its heads; None where a parameter overflows: that excuses no port, and torchvision's
        DCN does not survive infinite offsets.
    """
    return _rounded_onnx(kind, subject) if subject.module is None else _rounded_network(kind, subject)


def _rounded_network(kind: torch.dtype, subject: Subject) -> Callable[[Images], Heads] | None:
    card = subject.card
    assert subject.module is not None
    network = CardNetwork(subject.module, card)
    fold_every_batch_norm(network)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(kind).float()
        if not bool(torch.isfinite(parameter).all()):
            return None

    def run(images: Images) -> Heads:
        with torch.inference_mode():
            tensors = network(torch.from_numpy(np.ascontiguousarray(images)))
        named = {name: tensor.numpy() for name, tensor in zip(card.output.names, tensors, strict=True)}
        return read_heads(card, named, len(images))

    return run


def _rounded_onnx(kind: torch.dtype, subject: Subject) -> Callable[[Images], Heads] | None:
    card = subject.card
    assert subject.onnx is not None
    model = runnable_on_host(load_onnx(subject.onnx), subject.onnx)
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            values = torch.from_numpy(numpy_helper.to_array(constant).copy()).to(kind).float()
            if not bool(torch.isfinite(values).all()):
                return None
            constant.CopyFrom(numpy_helper.from_array(values.numpy(), constant.name))
    session: Any = open_unoptimised(model)

    def run(images: Images) -> Heads:
        outputs = in_batches_of(subject.static_batch, lambda some: run_session(session, card.input.name, some), images)
        return read_heads(card, outputs, len(images))

    return run


__all__ = ["GOLDEN", "ROUNDED", "Reference", "split_samples", "with_parameters_as"]
