"""DCNv2, the modulated deformable convolution of CenterNet, on `torchvision.ops.deform_conv2d`.

Zhu et al., "Deformable ConvNets v2" (https://arxiv.org/abs/1811.11168), equation 1. Parameter names are those of the
official checkpoints: `weight`, `bias`, `conv_offset_mask.weight`, `conv_offset_mask.bias`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from harness.centernet.ops.decomposed import deform_conv2d_decomposed


def split_offset_mask(offset_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Split the output of `conv_offset_mask` into offsets and mask.

    Args:
        offset_mask: (N, 3 * groups * kh * kw, h, w), with `groups` offset groups.

    Returns:
        Offsets (N, 2 * groups * kh * kw, h, w) in pixels, interleaved (dy, dx) for each kernel point in row-major
        order, and the mask (N, groups * kh * kw, h, w) in 0..1.
    """
    points = offset_mask.shape[1] // 3
    return offset_mask[:, : 2 * points], torch.sigmoid(offset_mask[:, 2 * points :])


class DCNv2(nn.Module):
    """Deformable convolution that computes its own offsets and mask from its input.

    (N, in_channels, H, W) -> (N, out_channels, H', W').
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        offset_groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.decomposed = False
        """Selects `deform_conv2d_decomposed`, which training uses for speed."""
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset_mask = nn.Conv2d(
            in_channels, 3 * offset_groups * kernel_size**2, kernel_size, stride, padding, dilation
        )
        bound = 1 / math.sqrt(in_channels * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        # Training starts as an ordinary convolution with every tap at half its weight.
        for parameter in self.conv_offset_mask.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` at the offsets that are computed from it."""
        offset, mask = split_offset_mask(self.conv_offset_mask(x))
        # Under autocast the convolution of the offsets gives bfloat16: too coarse for positions, and not one dtype.
        x, offset, mask = (tensor.to(self.weight.dtype) for tensor in (x, offset, mask))
        if self.decomposed:
            return deform_conv2d_decomposed(
                x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
            )
        result: Tensor = deform_conv2d(
            x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )
        return result
