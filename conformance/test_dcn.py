"""DCNv2: its two forms agree with each other and with the definition, written out as loops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.ops import deform_conv2d

from harness.ops import DCNv2, split_offset_mask
from harness.ops.decomposed import deform_conv2d_decomposed
from harness.ops.sampled import SampledDCNv2
from harness.types import Float64

pytestmark = pytest.mark.numerics

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair]

ATOL = 1e-9
"""In float64, for sums of some dozens of values around 1."""


def naive_dcn(
    x: Float64, offset: Float64, weight: Float64, bias: Float64, geometry: Geometry, mask: Float64
) -> Float64:
    """DCNv2 by definition; `geometry` is stride, padding, dilation, each (vertical, horizontal).

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
        x, offset, weight, bias, mask = (tensor.detach().numpy() for tensor in self.leaves())
        return torch.from_numpy(naive_dcn(x, offset, weight, bias, self.geometry, mask))

    def native(self, dtype: torch.dtype = torch.float64) -> Tensor:
        x, offset, weight, bias, mask = self._tensors(dtype)
        result: Tensor = deform_conv2d(x, offset, weight, bias, *self.geometry, mask)
        return result

    def decomposed(self, dtype: torch.dtype = torch.float64) -> Tensor:
        x, offset, weight, bias, mask = self._tensors(dtype)
        return deform_conv2d_decomposed(x, offset, weight, bias, *self.geometry, mask)

    def leaves(self) -> tuple[Tensor, ...]:
        return self.x, self.offset, self.weight, self.bias, self.mask

    def _tensors(self, dtype: torch.dtype) -> list[Tensor]:
        return [tensor.to(dtype) for tensor in self.leaves()]


@st.composite
def cases(draw: st.DrawFn, reach: float | None = None) -> Case:
    """Any geometry; offsets around `reach` pixels, from a fraction of one to far outside, and never zero."""
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


@given(case=cases())
@settings(deadline=None, max_examples=150)
def test_both_forms_equal_the_definition(case: Case) -> None:
    expected = case.naive()
    torch.testing.assert_close(case.native(), expected, rtol=0, atol=ATOL)
    # Normalised coordinates cost the decomposed form digits in proportion to the offset.
    torch.testing.assert_close(case.decomposed(), expected, rtol=0, atol=ATOL * float(case.offset.abs().max().clip(1)))


def test_without_mask_and_bias_both_forms_are_dcnv1() -> None:
    generator = torch.Generator().manual_seed(1)
    x, offset, weight = (torch.randn(s, generator=generator) for s in ((1, 2, 6, 7), (1, 18, 6, 7), (3, 2, 3, 3)))
    native = deform_conv2d(x, offset, weight, padding=1)
    torch.testing.assert_close(deform_conv2d_decomposed(x, offset, weight, padding=1), native, rtol=0, atol=1e-4)


@given(case=cases(reach=3.0))
@settings(deadline=None, max_examples=40)
def test_float32_of_both_forms_differs_by_rounding_only(case: Case) -> None:
    exact = case.native()
    for form in (case.native, case.decomposed):
        # Positions up to some 20 pixels are known to 2e-6 pixels, and a few dozen values of about 3 are summed.
        torch.testing.assert_close(form(torch.float32).double(), exact, rtol=0, atol=1e-3)


@given(case=cases(reach=1.5))
@settings(deadline=None, max_examples=30)
def test_gradients_of_the_decomposed_form_are_those_of_the_native_one(case: Case) -> None:
    def gradients(result: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum(), leaves)

    leaves = case.leaves()
    for leaf in leaves:
        leaf.requires_grad_()
    names = ("x", "offset", "weight", "bias", "mask")
    for name, own, native in zip(names, gradients(case.decomposed()), gradients(case.native()), strict=True):
        np.testing.assert_allclose(own, native, rtol=0, atol=1e-8, err_msg=f"gradient of {name}")


def test_samples_far_outside_the_image_contribute_nothing() -> None:
    x, weight, bias = torch.ones(1, 1, 6, 6), torch.ones(1, 1, 3, 3), torch.tensor([0.25])
    mask = torch.ones(1, 9, 6, 6)
    for offset in (-50.0, 50.0, 1e6):
        outside = torch.full((1, 18, 6, 6), offset)
        for form in (deform_conv2d, deform_conv2d_decomposed):
            assert torch.equal(form(x, outside, weight, bias, 1, 1, 1, mask), torch.full((1, 1, 6, 6), 0.25))


@pytest.mark.parametrize("groups", [1, 2])
def test_offset_mask_is_split_into_offsets_first_and_masks_last(groups: int) -> None:
    points = groups * 9
    numbered = torch.arange(3 * points, dtype=torch.float32).reshape(1, -1, 1, 1).expand(2, -1, 4, 5)

    offset, mask = split_offset_mask(numbered)

    assert offset[1, :, 3, 4].tolist() == list(range(2 * points))
    np.testing.assert_allclose(mask[1, :, 0, 0], 1 / (1 + np.exp(-np.arange(2.0 * points, 3 * points))), rtol=1e-6)


@pytest.mark.parametrize("point", [0, 1, 5, 8])
@pytest.mark.parametrize("decomposed", [False, True])
def test_channels_of_an_offset_are_dy_before_dx_point_by_point_in_rows(point: int, decomposed: bool) -> None:
    """A kernel that looks only through `point`, moved 2 rows down and 1 column left, reads the pixel there."""
    form = deform_conv2d_decomposed if decomposed else deform_conv2d
    x = torch.arange(81, dtype=torch.float32).reshape(1, 1, 9, 9)
    offset, weight = torch.full((1, 18, 9, 9), 0.7), torch.zeros(1, 1, 3, 3)
    offset[:, 2 * point], offset[:, 2 * point + 1] = 2, -1
    weight[0, 0, point // 3, point % 3] = 1

    result = form(x, offset, weight, torch.zeros(1), 1, 1, 1, torch.ones(1, 9, 9, 9))

    row, column = 4 + point // 3 - 1 + 2, 4 + point % 3 - 1 - 1
    torch.testing.assert_close(result[0, 0, 4, 4], x[0, 0, row, column], rtol=0, atol=1e-4)


def layer(decomposed: bool = False) -> DCNv2:
    """A layer whose offsets depend on the input and are nowhere zero."""
    torch.manual_seed(4)
    dcn = DCNv2(4, 6, stride=2, padding=2, dilation=2).requires_grad_(False)
    torch.nn.init.normal_(dcn.conv_offset_mask.weight, std=0.3)
    torch.nn.init.normal_(dcn.get_parameter("conv_offset_mask.bias"), std=1.5)
    dcn.decomposed = decomposed
    return dcn


@pytest.mark.parametrize("decomposed", [False, True])
def test_layer_moves_by_the_offsets_that_its_convolution_asks_for(decomposed: bool) -> None:
    dcn, x = layer(decomposed).double(), torch.randn(2, 4, 9, 11, dtype=torch.float64)
    asked = dcn.conv_offset_mask(x)
    assert bool((asked.abs() > 1).any())
    mask = 1 / (1 + (-asked[:, 18:]).exp())

    expected = Case(x, asked[:, :18], dcn.weight, dcn.bias, ((2, 2), (2, 2), (2, 2)), mask).naive()

    assert expected.shape == (2, 6, 5, 6)
    torch.testing.assert_close(dcn(x), expected, rtol=0, atol=1e-8)


@given(
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    sides=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    reach=st.sampled_from([0.5, 5.0, 100.0]),
)
@settings(deadline=None, max_examples=60)
def test_layer_written_for_one_size_equals_the_layer(
    stride: int, padding: int, dilation: int, groups: int, sides: Pair, reach: float
) -> None:
    assume(min(sides) + 2 * padding > 2 * dilation)
    torch.manual_seed(stride + 10 * padding)
    dcn = DCNv2(4, 3, 3, stride, padding, dilation, groups).double().requires_grad_(False)
    torch.nn.init.normal_(dcn.conv_offset_mask.weight, std=reach)
    torch.nn.init.normal_(dcn.get_parameter("conv_offset_mask.bias"), std=reach)
    x = torch.randn(2, 4, *sides, dtype=torch.float64)
    moved = dcn.conv_offset_mask(x)[:, : 18 * groups].abs()
    assert float(moved.median()) > reach / 4
    torch.testing.assert_close(SampledDCNv2(dcn, *sides)(x), dcn(x), rtol=0, atol=1e-9 * float(moved.max().clip(1)))


def test_fresh_layer_is_a_convolution_at_half_its_weight() -> None:
    dcn, x = DCNv2(3, 5), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(dcn(x), functional.conv2d(x, dcn.weight, dcn.bias, padding=1) / 2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("decomposed", [False, True])
def test_positions_stay_float32_under_bfloat16_autocast(decomposed: bool) -> None:
    dcn, x = layer(decomposed), torch.randn(1, 4, 9, 11)
    with torch.autocast("cpu", torch.bfloat16):
        asked = dcn.conv_offset_mask(x)
        result = dcn(x)
    assert asked.dtype == torch.bfloat16
    offset, mask = split_offset_mask(asked)
    case = Case(x, offset, dcn.weight, dcn.bias, ((2, 2), (2, 2), (2, 2)), mask)
    expected = case.native(torch.float32)
    # The last product of the decomposed form is rounded to bfloat16; positions in bfloat16 would differ by 0.017.
    torch.testing.assert_close(result.float(), expected, rtol=0, atol=0.004)
