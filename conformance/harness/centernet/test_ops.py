"""DCNv2: its two forms equal each other and the definition, written as loops."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchvision.ops import deform_conv2d

from conformance.support.dcn_cases import Case, Pair, cases
from harness.centernet.ops import DCNv2, split_offset_mask
from harness.centernet.ops.decomposed import deform_conv2d_decomposed
from harness.centernet.ops.sampled import SampledDCNv2

ATOL = 1e-9
"""In float64, for sums of some dozens of values around 1."""


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
    """Make a layer with offsets that depend on the input and are nowhere zero."""
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
