"""The tensors of an ONNX that nobody described: its image input, and what it gives for one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.cards import ModelCard
from harness.cards.model import LARGEST_BATCH, LARGEST_SIDE, Input, OutputHeads
from harness.centernet.heads import FLOATS
from harness.devices.artifact import Artifact, Exported, TensorSpec
from harness.devices.memory import require_memory
from harness.devices.onnxruntime import OnnxRuntimeDevice
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.types import Outputs

Layout = Literal["NCHW", "NHWC"]
USUAL_SIDE = 512
"""Pixels of a side of the input that an ONNX leaves open."""
SIDE_FACTOR = 32
"""The sides of a network input are multiples of it."""
LARGEST_STRIDE = 128
FLOAT_PIXEL = 12
"""Bytes of three float32."""
DTYPES = ("float32", "uint8")


@dataclass(frozen=True, slots=True)
class Port:
    """A model as ONNX Runtime runs it, and its tensors.

    Attributes:
        path: The ONNX.
        device: ONNX Runtime.
        artifact: What it runs.
        input: The input tensor as the file states it.
        layout: Of the input.
        sides: (height, width) of the network input in pixels.
        open_sides: Whether the file leaves these open.
        batch: The static batch size; None where any is taken.
        heads: Outputs (N, channels, h, w) on a grid over the input, by name: channels.
        stride: Of that grid.
        others: Outputs that cannot be heads, with their shapes.
    """

    path: Path
    device: OnnxRuntimeDevice
    artifact: Artifact
    input: TensorSpec
    layout: Layout
    sides: tuple[int, int]
    open_sides: bool
    batch: int | None
    heads: dict[str, int]
    stride: int
    others: dict[str, tuple[int, ...]]

    @property
    def slots(self) -> int:
        """Images given to the model at a time."""
        return self.batch or 1

    def takes(self, batch: int) -> bool:
        """Whether the model runs a batch of this size, which it states it does."""
        try:
            outputs = _run_zeros(self.device, self.artifact, self.input, self.layout, self.sides, batch)
        except HarnessError:
            return False
        return all(len(outputs[name]) == batch for name in self.heads)


@contextmanager
def open_port(path: Path) -> Iterator[Port]:
    """Open an ONNX, run it once on zeros, and find its image input and what may be its heads.

    Raises:
        HarnessError: It is no ONNX, cannot be run, or is no CenterNet.
    """
    stated = stated_by(load_onnx_checked(path))
    spec = _image_input(stated, path)
    batch = spec.shape[0]
    require_size(batch, spec, path)
    with closing(OnnxRuntimeDevice()) as device:
        precision = stated.executed["precision"]
        if precision not in device.card.precisions:
            raise HarnessError(
                f"the model computes in {precision or 'no floating type'}, and ONNX Runtime is given models of "
                f"{', '.join(device.card.precisions)}",
                file=path,
                field="--onnx",
                remedy="export the model in float32; other precisions are made from that",
            )
        exported = Exported(_any_card(spec, path), device.card.dialect, path=path)
        artifact = device.convert(exported, batch or 1, precision)
        layout, sides = _layout(spec, path)
        remedy = "export the model with a smaller batch size"
        size = (batch or 1) * math.prod(sides) * FLOAT_PIXEL
        require_memory(size, "one batch of its input", file=path, field="--onnx", remedy=remedy)
        outputs = _run_zeros(device, artifact, spec, layout, sides, batch or 1)
        stride, heads = _on_one_grid(outputs, batch or 1, sides, path)
        others = {name: values.shape for name, values in outputs.items() if name not in heads}
        open_sides = None in (spec.shape[1:3] if layout == "NHWC" else spec.shape[2:])
        yield Port(path, device, artifact, spec, layout, sides, open_sides, batch, heads, stride, others)


def require_size(batch: int | None, spec: TensorSpec, path: Path) -> None:
    """Refuse an input that no card can describe.

    Raises:
        HarnessError: A side is no multiple of 32, or a side or the batch is too large.
    """
    sides = [side for side in spec.shape[1:] if side not in (None, 3)]
    if not 1 <= (batch or 1) <= LARGEST_BATCH or any(
        not 0 < side <= LARGEST_SIDE or side % SIDE_FACTOR for side in sides if side is not None
    ):
        raise HarnessError(
            f"its input '{spec.name}' has the shape {_shown(spec.shape)}, and the sides of a CenterNet's input are "
            f"multiples of {SIDE_FACTOR} up to {LARGEST_SIDE}",
            file=path,
            field="--onnx",
            remedy="export the model with an input whose height and width are multiples of 32",
        )


def _image_input(stated: Artifact, path: Path) -> TensorSpec:
    if len(stated.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in stated.inputs) or "none"
        raise _no_centernet(f"it has {len(stated.inputs)} inputs ({names})", "one input, a batch of images", path)
    [spec] = stated.inputs
    channels = 4 * [None] if not spec.shape else spec.shape
    if len(channels) != 4 or (channels[1] not in (3, None) and channels[3] not in (3, None)):
        raise _no_centernet(
            f"its input '{spec.name}' has the shape {_shown(spec.shape)}",
            "an input (N, 3, height, width) or (N, height, width, 3)",
            path,
        )
    if spec.dtype not in DTYPES:
        raise HarnessError(
            f"its input '{spec.name}' has the dtype {spec.dtype}, and a card can say {' or '.join(DTYPES)}",
            file=path,
            field="--onnx",
            remedy="export the model with a float32 or uint8 input; a Cast at its beginning will do",
        )
    return spec if spec.shape else TensorSpec(spec.name, (None,) * 4, spec.dtype)


def _layout(spec: TensorSpec, path: Path) -> tuple[Layout, tuple[int, int]]:
    first, last = spec.shape[1] == 3, spec.shape[3] == 3
    if first == last and (first or None not in (spec.shape[1], spec.shape[3])):
        raise _no_centernet(f"its input has the shape {_shown(spec.shape)}", "three channels on one side", path)
    layout: Layout = "NHWC" if last or (not first and spec.shape[1] is not None) else "NCHW"
    height, width = spec.shape[1:3] if layout == "NHWC" else spec.shape[2:]
    return layout, (height or width or USUAL_SIDE, width or height or USUAL_SIDE)


def _any_card(spec: TensorSpec, path: Path) -> ModelCard:
    """Make the card that a device is handed with a file; of what it says, floating models need nothing."""
    triple = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    image = Input(
        name=spec.name,
        height=USUAL_SIDE,
        width=USUAL_SIDE,
        channel_order="BGR",
        scale=1.0,
        mean=triple[0],
        std=triple[1],
        geometry="affine",
    )
    heads = OutputHeads(names=("?",), heads=("hm", "wh"), concatenated=True, hm="logits")
    return ModelCard(name="draft", description="", source="", input=image, output=heads)


def _run_zeros(
    device: OnnxRuntimeDevice, artifact: Artifact, spec: TensorSpec, layout: Layout, sides: tuple[int, int], batch: int
) -> Outputs:
    shape = (batch, 3, *sides) if layout == "NCHW" else (batch, *sides, 3)
    images: NDArray[np.generic] = np.zeros(shape, spec.dtype)
    return device.run(artifact, images)


def _on_one_grid(outputs: Outputs, batch: int, sides: tuple[int, int], path: Path) -> tuple[int, dict[str, int]]:
    """Find the outputs that lie on a grid over the input; of several grids, that with a heatmap and boxes.

    Returns:
        The stride, and the channels of each output by name.
    """
    by_stride: dict[int, dict[str, int]] = {}
    for name, values in outputs.items():
        shape = np.shape(values)
        if len(shape) == 4 and shape[0] == batch and str(values.dtype) in FLOATS and min(shape) > 0:
            stride = sides[0] // shape[2]
            if 0 < stride <= LARGEST_STRIDE and (shape[2] * stride, shape[3] * stride) == sides:
                by_stride.setdefault(stride, {})[name] = shape[1]
    # A heatmap and boxes in one tensor, or in two.
    serving = {stride: heads for stride, heads in by_stride.items() if _may_be_heads(list(heads.values()))}
    if serving:
        return min(serving.items(), key=lambda item: (-len(item[1]), item[0]))
    shapes = ", ".join(f"'{name}' {_shown(np.shape(values))}" for name, values in outputs.items())
    hint = ""
    if any(len(np.shape(v)) == 4 and np.shape(v)[1] == np.shape(v)[2] != np.shape(v)[3] for v in outputs.values()):
        hint = "; they look like NHWC, and a card's heads are NCHW: export the model with these"
    raise _no_centernet(
        f"for an input of {sides[1]} x {sides[0]} pixels it gives {shapes}{hint}",
        "a heatmap (N, classes, h, w) and boxes (N, 2 or 4, h, w) on one grid over the input, or these in one tensor",
        path,
    )


def _may_be_heads(channels: list[int]) -> bool:
    return any(count >= 3 for count in channels) or (len(channels) > 1 and any(count in (2, 4) for count in channels))


def _no_centernet(found: str, expected: str, path: Path) -> HarnessError:
    return HarnessError(
        f"this is no CenterNet that the suite knows: {found}; expected {expected}",
        file=path,
        field="--onnx",
        remedy="give the ONNX of a CenterNet; one that ends in detections needs its heads as outputs",
    )


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"
