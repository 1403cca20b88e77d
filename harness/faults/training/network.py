"""Mistakes in the batch, the backbone and the pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from harness.centernet2.backbone import Bottleneck, NormedConv, Pyramid
from harness.centernet2.labels import Size
from harness.centernet2.port import TrainingPort
from harness.faults.training.fault import OFFICIAL, PORT, TrainingFault, override, with_settings
from harness.types import UInt8

Change = Callable[[TrainingPort], None]
Batch = tuple[Tensor, list[Size]]
MakeBatch = Callable[[Sequence[UInt8]], Batch]
FIXED = 192
"""Side of a fixed shape that is larger than the batch, a multiple of 32."""


def _padded_to_fixed_shape(port: TrainingPort) -> None:
    def batch(right: MakeBatch, images: Sequence[UInt8]) -> Batch:
        found, sizes = right(images)
        bottom, side = (max(0, FIXED - length) for length in found.shape[2:])
        return F.pad(found, (0, side, 0, bottom)), sizes

    override(port.model, "batch", batch)


def _channels_swapped(port: TrainingPort) -> None:
    def batch(right: MakeBatch, images: Sequence[UInt8]) -> Batch:
        return right([image[::-1].copy() for image in images])

    override(port.model, "batch", batch)


def _padded_before_normalisation(port: TrainingPort) -> None:
    def batch(right: MakeBatch, images: Sequence[UInt8]) -> Batch:
        found, sizes = right(images)
        own = port.model.settings.input
        black = -found.new_tensor(own.mean) / found.new_tensor(own.std)
        for image, (height, width) in zip(found, sizes, strict=True):
            image[:, height:] = black[:, None, None]
            image[:, :, width:] = black[:, None, None]
        return found, sizes

    override(port.model, "batch", batch)


def _stride_in_3x3(port: TrainingPort) -> None:
    for module in port.model.modules():
        if isinstance(module, Bottleneck):
            module.conv2.stride, module.conv1.stride = module.conv1.stride, (1, 1)


def _backbone_not_frozen(port: TrainingPort) -> None:
    port.model.backbone.bottom_up.requires_grad_()


def _folded(port: TrainingPort) -> None:
    for module in port.model.backbone.bottom_up.modules():
        if isinstance(module, NormedConv):
            override(module, "forward", partial(_folded_forward, module))


def _folded_forward(module: NormedConv, right: object, x: Tensor) -> Tensor:
    """Convolve with weights that the norm is folded into, and pass their gradient on as that of the weights."""
    del right
    norm = module.norm
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = (module.weight * factor[:, None, None, None]).detach() + module.weight - module.weight.detach()
    return F.conv2d(x, weight, norm.bias - norm.running_mean * factor, module.stride, module.padding)


def _with_pyramid(merge: Callable[[Tensor, Tensor], Tensor], *, passes_outputs: bool = False) -> Change:
    """Return a change of how a level of the pyramid is merged with the one above, or with what is given out of it."""

    def change(port: TrainingPort) -> None:
        backbone = port.model.backbone

        def features(right: object, images: Tensor) -> list[Tensor]:
            del right
            return _pyramid(backbone, images, merge, passes_outputs)

        override(port.model, "features", features)

    return change


def _pyramid(
    backbone: Pyramid, images: Tensor, merge: Callable[[Tensor, Tensor], Tensor], passes_outputs: bool
) -> list[Tensor]:
    above: Tensor | None = None
    found: list[Tensor] = []
    for level, feature in zip((5, 4, 3), reversed(backbone.bottom_up(images)), strict=True):
        lateral = getattr(backbone, f"fpn_lateral{level}")(feature)
        merged = lateral if above is None else merge(lateral, above)
        found.insert(0, getattr(backbone, f"fpn_output{level}")(merged))
        above = found[0] if passes_outputs else merged
    return [*found, *backbone.top_block(found[-1])]


def _sum(lateral: Tensor, above: Tensor) -> Tensor:
    return lateral + F.interpolate(above, scale_factor=2.0, mode="nearest")


def _average(lateral: Tensor, above: Tensor) -> Tensor:
    return _sum(lateral, above) / 2


def _bilinear(lateral: Tensor, above: Tensor) -> Tensor:
    return lateral + F.interpolate(above, scale_factor=2.0, mode="bilinear", align_corners=False)


def _top_block(
    p6_of: Callable[[Tensor], Tensor], p7_from: Callable[[Tensor], Tensor]
) -> Callable[[TrainingPort], None]:
    """Return a change of what lies between P5, P6 and P7."""

    def change(port: TrainingPort) -> None:
        block = port.model.backbone.top_block

        def forward(right: object, p5: Tensor) -> list[Tensor]:
            del right
            p6 = p6_of(block.p6(p5))
            return [p6, block.p7(p7_from(p6))]

        override(block, "forward", forward)

    return change


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _fault(**values: Any) -> TrainingFault:  # noqa: ANN401 - the fields of a fault
    return TrainingFault(**{"seen_in": OFFICIAL, **values})


NETWORK_FAULTS: tuple[TrainingFault, ...] = (
    _fault(
        id="fixed_shape_192",
        rung="batch",
        description="batches are padded to a fixed shape, which group norm, negatives and proposals see",
        seen_in=f"{PORT}: INPUT.FIX_SHAPE (1344, 1344)",
        change=_padded_to_fixed_shape,
    ),
    _fault(id="rgb_for_bgr", rung="batch", description="the channels are swapped", change=_channels_swapped),
    _fault(
        id="padded_before_normalisation",
        rung="batch",
        description="images are padded before they are normalised, so that the padding is minus the mean",
        change=_padded_before_normalisation,
        seen_in="data loaders that collate uint8 images, and normalise on the device",
    ),
    _fault(
        id="std_of_torchvision",
        rung="batch",
        description="pixels are divided by the deviations of torchvision's weights, where this backbone wants 1",
        change=with_settings("input", std=(57.375, 57.12, 58.395)),
        seen_in="transforms.Normalize of pixels from 0 to 1, with the usual three means and deviations",
    ),
    _fault(
        id="mean_in_integers",
        rung="batch",
        description="the mean of the pixels is subtracted as integers, 104, 116, 124",
        change=with_settings("input", mean=(104.0, 116.0, 124.0)),
        seen_in="image preprocessing units of chips whose mean is an integer",
    ),
    _fault(
        id="stride_in_3x3",
        rung="features",
        description="the stride of res3 to res5 is in the 3x3 convolution, as torchvision has it",
        change=_stride_in_3x3,
        seen_in="torchvision's ResNet, against STRIDE_IN_1X1 of the MSRA weights",
    ),
    _fault(
        id="backbone_not_frozen",
        rung="gradients",
        description="stem and res2 are trained",
        change=_backbone_not_frozen,
        seen_in="FREEZE_AT 0 in place of 2",
    ),
    _fault(
        id="batch_norm_folded",
        rung="gradients",
        description="batch norm is folded into the convolutions, so that the gradients are those of the folded weights",
        change=_folded,
        seen_in="graph optimisers that fuse convolution and batch norm in training, too",
    ),
    _fault(
        id="fpn_passes_outputs_down",
        rung="features",
        description="the output of a level of the pyramid goes down to the next, in place of what it is made of",
        change=_with_pyramid(_sum, passes_outputs=True),
        seen_in="pyramids written anew",
    ),
    _fault(
        id="fpn_average",
        rung="features",
        description="levels of the pyramid are merged by their average in place of their sum",
        change=_with_pyramid(_average),
        seen_in="detectron2's FUSE_TYPE avg",
    ),
    _fault(
        id="fpn_bilinear",
        rung="features",
        description="levels of the pyramid are enlarged bilinearly in place of by the nearest value",
        change=_with_pyramid(_bilinear),
        seen_in="chips without nearest-neighbour resizing",
    ),
    _fault(
        id="p7_without_relu",
        rung="features",
        description="P7 is made of P6 without the ReLU",
        change=_top_block(_as_it_is, _as_it_is),
    ),
    _fault(
        id="p6_with_relu",
        rung="features",
        description="P6 itself passes the ReLU",
        change=_top_block(F.relu, _as_it_is),
    ),
)
