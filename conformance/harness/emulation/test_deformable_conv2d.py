"""`DeformableConv2D` as standard operators equals CANN's definition, written as loops, and torchvision."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from onnx import ModelProto, TensorProto, helper
from torch import Tensor

from conformance.support.dcn_cases import Case, Geometry, cases
from conformance.support.written_onnx import run_onnx
from harness.emulation.deformable_conv2d import DOMAIN, OPERATOR, OPSET, deformable_conv2d_functions
from harness.emulation.rounding import to_fp16
from harness.types import Float32, Float64

Feeds = dict[str, Float32]


def by_definition(
    x: Float64, offsets: Float64, weight: Float64, bias: Float64, geometry: Geometry, deformable_groups: int
) -> Float64:
    """Compute CANN's operator as loops, from its own layout of channels.

    Channel (block x groups + group) x points + point of `offsets` holds the x offset (block 0), the y offset (block 1)
    or the mask (block 2) of a kernel point.
    """
    (stride_y, stride_x), (pad_y, pad_x), (dilation_y, dilation_x) = geometry
    n, channels, height, width = x.shape
    outs, per_group, kh, kw = weight.shape
    rows, columns = offsets.shape[2:]
    samples = np.zeros((n, channels, kh, kw, rows, columns))
    for image, channel, ky, kx, row, column in np.ndindex(samples.shape):
        group = channel * deformable_groups // channels
        own = offsets[image, group * kh * kw + ky * kw + kx :: deformable_groups * kh * kw, row, column]
        across, down, mask = own
        at_y = row * stride_y - pad_y + ky * dilation_y + down
        at_x = column * stride_x - pad_x + kx * dilation_x + across
        top, left = int(np.floor(at_y)), int(np.floor(at_x))
        for y, x_ in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            if 0 <= y < height and 0 <= x_ < width:
                share = (1 - abs(at_y - y)) * (1 - abs(at_x - x_))
                samples[image, channel, ky, kx, row, column] += mask * share * x[image, channel, y, x_]
    out = np.zeros((n, outs, rows, columns))
    for o in range(outs):
        first = o * (channels // per_group) // outs * per_group
        out[:, o] = bias[o] + np.einsum("nckqhw,ckq->nhw", samples[:, first : first + per_group], weight[o])
    return out


def deformable_groups(case: Case) -> int:
    return int(case.mask.shape[1] // (case.weight.shape[2] * case.weight.shape[3]))


def in_blocks(case: Case) -> Tensor:
    """Convert offsets and mask of torchvision to the layout of CANN."""
    return torch.cat((case.offset[:, 1::2], case.offset[:, 0::2], case.mask), 1)


def model_of(case: Case, *, fp16_samples: bool = False, fp16_coordinates: bool = False) -> ModelProto:
    ranks = {"x": 4, "weight": 4, "offsets": 4, "bias": 1}
    geometry = dict(zip(("strides", "pads", "dilations"), case.geometry, strict=True))
    groups = {"groups": case.x.shape[1] // case.weight.shape[1], "deformable_groups": deformable_groups(case)}
    node = helper.make_node(OPERATOR, list(ranks), ["y"], domain=DOMAIN, **geometry, **groups)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in ranks.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    return helper.make_model(
        helper.make_graph([node], "operator", values, [output]),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=9,
        functions=deformable_conv2d_functions(fp16_samples=fp16_samples, fp16_coordinates=fp16_coordinates),
    )


def run(model: ModelProto, feeds: Feeds) -> Float32:
    result: Float32 = run_onnx(model, feeds, optimised=False)["y"]
    return result


def feeds_of(case: Case) -> Feeds:
    tensors = {"x": case.x, "weight": case.weight, "offsets": in_blocks(case), "bias": case.bias}
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


@given(case=cases())
@settings(deadline=None, max_examples=60)
def test_operator_equals_its_definition_and_torchvision(case: Case) -> None:
    feeds = feeds_of(case)
    x, weight, offsets, bias = (values.astype(np.float64) for values in feeds.values())
    expected = by_definition(x, offsets, weight, bias, case.geometry, deformable_groups(case))
    found = run(model_of(case), feeds)
    assert found.shape == expected.shape
    # float32 places a position within the image to 1e-6 pixels, and a few dozen values of about 3 are summed.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(found, case.native(torch.float32), rtol=0, atol=2e-4)


def one_case(deformable: int = 2) -> Case:
    """Offsets of some pixels, x and y not alike, a kernel of 3x2, all attributes different."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    offset = 1.5 * normal(2, 2 * deformable * 6, 4, 6)
    mask = torch.sigmoid(normal(2, deformable * 6, 4, 6))
    return Case(normal(2, 4, 9, 8), offset, normal(6, 2, 3, 2), normal(6), ((2, 1), (1, 0), (2, 2)), mask)


MISTAKES: dict[str, Any] = {
    "x and y blocks exchanged": lambda c: torch.cat((c.offset[:, 0::2], c.offset[:, 1::2], c.mask), 1),
    "interleaved as torchvision has them": lambda c: torch.cat((c.offset, c.mask), 1),
    "mask first": lambda c: torch.cat((c.mask, c.offset[:, 1::2], c.offset[:, 0::2]), 1),
    "sigmoid twice": lambda c: torch.cat((c.offset[:, 1::2], c.offset[:, 0::2], torch.sigmoid(c.mask)), 1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("groups", [1, 2])
def test_mistaken_layouts_are_far_from_the_definition(mistake: str, groups: int) -> None:
    """At offsets of zero, all of these mistakes would pass."""
    case = one_case(groups)
    expected = case.native(torch.float32).numpy()
    right = run(model_of(case), feeds_of(case))
    wrong = run(model_of(case), feeds_of(case) | {"offsets": MISTAKES[mistake](case).float().numpy()})
    scale = np.abs(expected).max()
    assert np.abs(right - expected).max() < 1e-5 * scale
    assert np.abs(wrong - expected).max() > 0.1 * scale


@pytest.mark.parametrize("offset", [-60.0, 60.0, 1e6, 1e30])
def test_beside_the_image_nothing_is_read(offset: float) -> None:
    case = one_case()
    case = Case(case.x, torch.full_like(case.offset, offset), case.weight, case.bias, case.geometry, case.mask)
    found = run(model_of(case), feeds_of(case))
    np.testing.assert_array_equal(found, np.broadcast_to(feeds_of(case)["bias"][:, None, None], found.shape))


def test_offset_that_is_no_number_shows_in_the_result() -> None:
    feeds = feeds_of(one_case())
    feeds["offsets"][1, 3, 2, 1] = np.nan
    found = run(model_of(one_case()), feeds)
    assert np.isnan(found[1, :, 2, 1]).any()
    assert np.isfinite(found).sum() >= found.size - found.shape[1]


def test_without_bias_nothing_is_added() -> None:
    case = one_case()
    model = model_of(case)
    model.graph.node[0].input.pop()
    feeds = feeds_of(case)
    bias = feeds.pop("bias")
    model.graph.input.pop()
    biased = run(model_of(case), feeds_of(case))
    np.testing.assert_allclose(run(model, feeds) + bias[:, None, None], biased, rtol=0, atol=1e-5)


def passing_on(case: Case) -> Case:
    """Replace the kernel by one that passes on each point of each channel: the samples that the convolution reads."""
    channels, kh, kw = case.x.shape[1], *case.weight.shape[2:]
    unit = torch.eye(channels * kh * kw, dtype=torch.float64).reshape(-1, channels, kh, kw)
    return replace(case, weight=unit, bias=torch.zeros(len(unit), dtype=torch.float64))


def test_samples_are_stored_in_float16() -> None:
    case = passing_on(one_case())
    exact, stored = (run(model_of(case, fp16_samples=fp16), feeds_of(case)) for fp16 in (False, True))
    np.testing.assert_array_equal(stored, to_fp16(exact))
    assert (stored != exact).any()


def test_float16_coordinates_are_the_nearest_that_float16_knows() -> None:
    """On a ramp, values are positions: float16 knows only sixteenths between 64 and 128."""
    side = 128
    ramp = torch.arange(side, dtype=torch.float64).expand(1, 1, side, side).contiguous()
    shift = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5
    offset = torch.cat((torch.zeros_like(shift), shift), 1)
    geometry = ((1, 1), (0, 0), (1, 1))
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    case = Case(ramp, offset, one, torch.zeros(1, dtype=torch.float64), geometry, torch.ones_like(ramp))
    exact, coarse = (run(model_of(case, fp16_coordinates=fp16), feeds_of(case)) for fp16 in (False, True))
    inside = (0, 0, slice(None), slice(1, -1))
    wanted = (ramp + shift).float().numpy()
    np.testing.assert_allclose(exact[inside], wanted[inside], rtol=0, atol=1e-4)
    np.testing.assert_allclose(coarse[inside], to_fp16(wanted)[inside], rtol=0, atol=1e-4)
    assert np.abs(coarse - exact)[0, 0, :, 65:-1].max() > 0.03


@pytest.mark.parametrize("fp16", [False, True])
def test_functions_are_valid_and_of_one_domain(fp16: bool) -> None:
    model = model_of(one_case(), fp16_samples=fp16, fp16_coordinates=fp16)
    onnx.checker.check_model(model, full_check=True)
    assert {function.domain for function in model.functions} == {DOMAIN}
    operators = {node.op_type for function in model.functions for node in function.node if not node.domain}
    assert not {"DeformConv", "GridSample"} & operators
