"""`DeformableConv2D`, the operator of CANN, from its definition: local functions of standard ONNX operators.

The definition is that of GE's operator and of its lowering to DeformableOffsets and Conv2D. Offsets lie in three blocks
(x, y, mask), each with a channel for every deformable group and kernel point in row-major order. A kernel point reads
at its place in the kernel plus its offset: the four pixels around, weighted bilinearly, with 0 beside the image. The
sample is multiplied by its mask, and an ordinary convolution runs over the samples.

This module shares nothing with the exporter: tests compare each with torchvision, and this one also with the definition
as loops.
"""

from __future__ import annotations

import onnx
from onnx import FunctionProto

DOMAIN = "centernet_conformance.emulated"
"""ONNX Runtime takes no local function in the default domain."""

OPSET = 19
"""Opset of the functions, and of a model that calls them."""

OPERATOR = "DeformableConv2D"

_HEADER = f'<domain: "{DOMAIN}", opset_import: ["": {OPSET}, "{DOMAIN}": 1]>\n'

_OPERATOR = f"""
{OPERATOR} <strides, pads, dilations, groups, deformable_groups> (x, weight, offsets, bias) => (y)
{{
    n = Shape <start: int = 0, end: int = 1> (x)
    height, width = {DOMAIN}.Sides (x)
    kernel_height, kernel_width = {DOMAIN}.Sides (weight)
    out_height, out_width = {DOMAIN}.Sides (offsets)
    kernel = Shape <start: int = 2> (weight)
    outputs = Shape <start: int = 2> (offsets)
    groups_of_offsets = Constant <value_int: int = @deformable_groups> ()
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    three = Constant <value_ints: ints = [3]> ()
    others = Constant <value_ints: ints = [-1]> ()
    parts = Unsqueeze (groups_of_offsets, zero)

    stride = Constant <value_ints: ints = @strides> ()
    pad = Constant <value_ints: ints = @pads> ()
    dilation = Constant <value_ints: ints = @dilations> ()
    row_places = {DOMAIN}.Places <axis: int = 0> (kernel_height, out_height, stride, pad, dilation)
    column_places = {DOMAIN}.Places <axis: int = 1> (kernel_width, out_width, stride, pad, dilation)
    row_axes = Constant <value_ints: ints = [1, 3]> ()
    column_axes = Constant <value_ints: ints = [0, 2]> ()
    rows = Unsqueeze (row_places, row_axes)
    columns = Unsqueeze (column_places, column_axes)

    block_shape = Concat <axis: int = 0> (n, three, parts, kernel, outputs)
    blocks = Reshape (offsets, block_shape)
    x_offset, y_offset, mask = Split <axis: int = 1, num_outputs: int = 3> (blocks)
    row_sum = Add (rows, y_offset)
    column_sum = Add (columns, x_offset)
    row = {DOMAIN}.Sampled (row_sum)
    column = {DOMAIN}.Sampled (column_sum)
    above, above_weight, below, below_weight = {DOMAIN}.Neighbours (row, height)
    left, left_weight, right, right_weight = {DOMAIN}.Neighbours (column, width)

    area = Mul (height, width)
    pixel_count = Unsqueeze (area, zero)
    pixel_shape = Concat <axis: int = 0> (n, parts, others, pixel_count)
    planes = Reshape (x, pixel_shape)
    pixels = Transpose <perm: ints = [0, 1, 3, 2]> (planes)
    sample_shape = Concat <axis: int = 0> (n, parts, others, one)
    above_left = {DOMAIN}.Corner (pixels, above, left, width, above_weight, left_weight, sample_shape)
    above_right = {DOMAIN}.Corner (pixels, above, right, width, above_weight, right_weight, sample_shape)
    below_left = {DOMAIN}.Corner (pixels, below, left, width, below_weight, left_weight, sample_shape)
    below_right = {DOMAIN}.Corner (pixels, below, right, width, below_weight, right_weight, sample_shape)
    interpolated = Sum (above_left, above_right, below_left, below_right)
    factors = Reshape (mask, sample_shape)
    modulated = Mul (interpolated, factors)
    samples = {DOMAIN}.Stored (modulated)

    channels_first = Transpose <perm: ints = [0, 1, 3, 2]> (samples)
    map_shape = Concat <axis: int = 0> (n, others, outputs)
    maps = Reshape (channels_first, map_shape)
    out_channels = Shape <start: int = 0, end: int = 1> (weight)
    flat_shape = Concat <axis: int = 0> (out_channels, others, one, one)
    flat_weight = Reshape (weight, flat_shape)
    y = Conv <group: int = @groups> (maps, flat_weight, bias)
}}
"""

_PARTS = (
    """
Sides (tensor) => (height, width)
{
    two = Constant <value_int: int = 2> ()
    three = Constant <value_int: int = 3> ()
    shape = Shape (tensor)
    height = Gather (shape, two)
    width = Gather (shape, three)
}
""",
    """
Places <axis> (kernel, output, stride, pad, dilation) => (places)
{
    zero = Constant <value_int: int = 0> ()
    one = Constant <value_int: int = 1> ()
    last = Constant <value_ints: ints = [1]> ()
    own = Constant <value_int: int = @axis> ()
    step = Gather (stride, own)
    before = Gather (pad, own)
    spacing = Gather (dilation, own)
    points = Range (zero, kernel, one)
    outputs = Range (zero, output, one)
    apart = Mul (points, spacing)
    stepped = Mul (outputs, step)
    start = Sub (stepped, before)
    of_points = Unsqueeze (apart, last)
    whole = Add (of_points, start)
    places = Cast <to: int = 1> (whole)
}
""",
    f"""
Neighbours (position, side) => (lower, lower_weight, upper, upper_weight)
{{
    one = Constant <value_float: float = 1.0> ()
    lower_place = Floor (position)
    upper_place = Add (lower_place, one)
    upper_share = Sub (position, lower_place)
    lower_share = Sub (one, upper_share)
    lower, lower_weight = {DOMAIN}.Inside (lower_place, lower_share, side)
    upper, upper_weight = {DOMAIN}.Inside (upper_place, upper_share, side)
}}
""",
    """
Inside (place, share, side) => (index, weight)
{
    zero = Constant <value_float: float = 0.0> ()
    end = Cast <to: int = 1> (side)
    begun = GreaterOrEqual (place, zero)
    not_ended = Less (place, end)
    inside = And (begun, not_ended)
    readable = Where (inside, place, zero)
    index = Cast <to: int = 7> (readable)
    counts = Cast <to: int = 1> (inside)
    weight = Mul (share, counts)
}
""",
    f"""
Corner (pixels, row, column, width, row_weight, column_weight, shape) => (weighted)
{{
    before = Mul (row, width)
    index = Add (before, column)
    indices = Reshape (index, shape)
    product = Mul (row_weight, column_weight)
    weight = {DOMAIN}.Sampled (product)
    weights = Reshape (weight, shape)
    values = GatherND <batch_dims: int = 2> (pixels, indices)
    weighted = Mul (values, weights)
}}
""",
)

_EXACT = "{name} (value) => (same)\n{{\n    same = Identity (value)\n}}\n"

_ROUNDED = """{name} (value) => (rounded)
{{
    lowest = Constant <value_float: float = -65504.0> ()
    highest = Constant <value_float: float = 65504.0> ()
    within = Clip (value, lowest, highest)
    half = Cast <to: int = 10> (within)
    rounded = Cast <to: int = 1> (half)
}}
"""


def deformable_conv2d_functions(*, fp16_samples: bool, fp16_coordinates: bool) -> list[FunctionProto]:
    """Make the functions of the operator, all in `DOMAIN`; a model that calls the operator needs them all.

    Args:
        fp16_samples: Store samples in float16 before the convolution reads them.
        fp16_coordinates: Round positions and bilinear weights to float16, too. The precision of the chips' own kernel
            is not known.
    """
    stored, sampled = (
        (_ROUNDED if fp16 else _EXACT).format(name=name)
        for name, fp16 in (("Stored", fp16_samples), ("Sampled", fp16_coordinates))
    )
    return [onnx.parser.parse_function(_HEADER + text) for text in (_OPERATOR, *_PARTS, stored, sampled)]
