"""Deformable convolutions of every geometry, and the definition of DCNv2 written out as loops."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import deform_conv2d

from harness.centernet.ops.decomposed import deform_conv2d_decomposed
from harness.types import Float64

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair]


def naive_dcn(
    x: Float64, offset: Float64, weight: Float64, bias: Float64, geometry: Geometry, mask: Float64
) -> Float64:
    """Compute DCNv2 by definition; `geometry` is stride, padding, dilation, each (vertical, horizontal).

    A sample at (y, x) is the sum of all pixels, each with the weight max(0, 1 - |dy|) max(0, 1 - |dx|) of bilinear
    interpolation; beside the image there are none. Offset group g holds kernel point p's (dy, dx) in the channels
    2 (g points + p) and the one after it, and its mask in the channel g points + p. Of the groups of the convolution,
    each connects its share of the outputs with its share of the inputs.
    """
    stride, padding, dilation = geometry
    n, channels, height, width = x.shape
    points, kernel = weight.shape[2] * weight.shape[3], weight.shape[3]
    offset_groups = mask.shape[1] // points
    own, per_output = channels // offset_groups, weight.shape[1]
    groups = channels // per_output
    out = np.zeros((n, len(weight), *offset.shape[2:]))
    for sample, row, column in np.ndindex(n, *offset.shape[2:]):
        out[sample, :, row, column] = bias
        for point, channel in np.ndindex(points, channels):
            i, j = divmod(point, kernel)
            at = channel // own * points + point
            dy, dx = offset[sample, 2 * at :, row, column][:2]
            y = row * stride[0] - padding[0] + i * dilation[0] + dy
            x_ = column * stride[1] - padding[1] + j * dilation[1] + dx
            hat_y = np.maximum(0, 1 - np.abs(y - np.arange(height)))
            hat_x = np.maximum(0, 1 - np.abs(x_ - np.arange(width)))
            value = hat_y @ x[sample, channel] @ hat_x * mask[sample, at, row, column]
            group = channel // per_output
            fed = slice(group * len(weight) // groups, (group + 1) * len(weight) // groups)
            out[sample, fed, row, column] += weight[fed, channel % per_output, i, j] * value
    return out


@dataclass(frozen=True)
class Case:
    """The arguments of one deformable convolution, float64."""

    x: Tensor
    offset: Tensor
    weight: Tensor
    bias: Tensor
    geometry: Geometry
    mask: Tensor

    def naive(self) -> Tensor:
        """Compute the result by the definition."""
        x, offset, weight, bias, mask = (tensor.detach().numpy() for tensor in self.leaves())
        return torch.from_numpy(naive_dcn(x, offset, weight, bias, self.geometry, mask))

    def native(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Compute the result by torchvision."""
        x, offset, weight, bias, mask = (tensor.to(dtype) for tensor in self.leaves())
        result: Tensor = deform_conv2d(x, offset, weight, bias, *self.geometry, mask)
        return result

    def decomposed(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Compute the result by bilinear sampling."""
        x, offset, weight, bias, mask = (tensor.to(dtype) for tensor in self.leaves())
        return deform_conv2d_decomposed(x, offset, weight, bias, *self.geometry, mask)

    def leaves(self) -> tuple[Tensor, ...]:
        """Return the tensors with gradients."""
        return self.x, self.offset, self.weight, self.bias, self.mask


@st.composite
def cases(draw: st.DrawFn, reach: float | None = None) -> Case:
    """Draw any geometry; offsets around `reach` pixels, from a fraction of one to far outside, and never zero."""
    small = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(small), draw(small), draw(small)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    sides = []
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        least = max(1, d * (k - 1) + 1 - 2 * p)
        sides.append(draw(st.integers(least, least + 4)))
    groups, offset_groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    channels, out = groups * offset_groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    n, points = draw(st.integers(1, 2)), kernel[0] * kernel[1]
    reach = draw(st.sampled_from([0.3, 2.0, 20.0, 1e4])) if reach is None else reach
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    h, w = (
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(sides, kernel, stride, padding, dilation, strict=True)
    )
    offset = reach * normal(n, 2 * offset_groups * points, h, w)
    assert bool((offset != 0).all())
    mask = torch.sigmoid(normal(n, offset_groups * points, h, w))
    x, weight = normal(n, channels, *sides), normal(out, channels // groups, *kernel)
    return Case(x, offset, weight, normal(out), (stride, padding, dilation), mask)
