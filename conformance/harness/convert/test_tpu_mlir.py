"""Reading of tpu_mlir's own files: graphs, lowered graphs, profiles, statements of a bmodel."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.convert.tpu_mlir.bmodel import StatedTensor, parse_info
from harness.convert.tpu_mlir.graph import float_operators, host_operators, read_graph
from harness.convert.tpu_mlir.profile import ddr_floor_ms, read_estimate
from harness.errors import HarnessError

Row = tuple[str, str, tuple[str, ...]]
"""Name, kind and operands, by name."""

OFFSETS: Sequence[Row] = (
    ("input", "Input", ()),
    ("feature", "Conv", ("input",)),
    ("offset_mask", "Conv", ("feature",)),
    ("offset", "Slice", ("offset_mask",)),
    ("scaled", "MulConst", ("offset",)),
    ("base", "Weight", ()),
    ("grid", "Add", ("scaled", "base")),
    ("mask", "Slice", ("offset_mask",)),
    ("gate", "Sigmoid", ("mask",)),
    ("taps", "GridSampler", ("feature", "grid")),
    ("masked", "Mul", ("taps", "gate")),
    ("dcn", "Conv", ("masked",)),
)
HEADS: Sequence[Row] = (
    ("hm.0", "Conv", ("dcn",)),
    ("hm.2", "Conv", ("hm.0",)),
    ("hm", "Sigmoid", ("hm.2",)),
    ("wh.0", "Conv", ("dcn",)),
    ("wh.2", "Conv", ("wh.0",)),
    ("all", "Concat", ("hm", "wh.2")),
)
FLOAT = dict.fromkeys(("offset", "scaled", "grid", "taps"), "F32")
"""Operators that stay in float32 under half precision."""
DCN = ("offset_mask", "mask", "gate", "masked", "dcn")
"""Further operators of a deformable convolution that stay in float under int8."""


def mlir(rows: Sequence[Row], returned: Sequence[str]) -> str:
    """Write the text of a graph: locations by number and by name at the end, a weight for every convolution."""
    lines = ["#loc = loc(unknown)", 'module @m attributes {module.chip = "ALL"} {']
    names, places = dict[str, str](), list[str]()
    lines.append("  func.func @main(%arg0: tensor<1x3x8x8xf32> loc(unknown)) -> (tensor<1x2x2x2xf32>) {")
    lines.append('    %0 = "top.None"() : () -> none loc(#loc)')
    for name, kind, taken in rows:
        number = len(places) + 1
        operands = ["%arg0"] if kind == "Input" else [names[one] for one in taken]
        operands += ["%0", "%0"] if kind in ("Slice", "Conv") else []
        names[name] = f"%{number}"
        lines.append(
            f'    %{number} = "top.{kind}"({", ".join(operands)}) {{do_relu = false, pads = [1, 1]}} : '
            f"(tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> loc(#loc{number})"
        )
        places.append(f'#loc{number} = loc("{name}")')
    results = ", ".join(names[name] for name in returned)
    lines += [f"    return {results} : tensor<1x2x2x2xf32> loc(#loc)", "  } loc(#loc)", "} loc(#loc)", *places]
    return "\n".join(lines) + "\n"


def table(folder: Path, text: str, mode: str, chip_float: str = "F16") -> dict[str, str]:
    file = folder / "m.mlir"
    file.write_text(text)
    return float_operators(read_graph(file), mode, chip_float)


PLAIN: Sequence[Row] = (("input", "Input", ()), ("dcn", "Conv", ("input",)), *HEADS)
SHARED: Sequence[Row] = (
    ("input", "Input", ()),
    ("trunk", "Conv", ("input",)),
    ("shared", "Conv", ("trunk",)),
    *((name, "Conv", ("shared",)) for name in ("hm", "wh", "reg")),
)
ENDS = ("hm.0", "hm.2", "hm", "wh.0", "wh.2")
CASES: dict[str, tuple[Sequence[Row], Sequence[str], str, str, dict[str, str]]] = {
    "all is float32": ((*OFFSETS, *HEADS), ["all"], "F32", "F16", {}),
    "positions and sampler stay in float32 under F16": ((*OFFSETS, *HEADS), ["all"], "F16", "F16", FLOAT),
    "positions and sampler stay in float32 under BF16": ((*OFFSETS, *HEADS), ["all"], "BF16", "F16", FLOAT),
    "DCN and heads stay in float under int8": (
        (*OFFSETS, *HEADS), ["all"], "INT8", "F16", FLOAT | dict.fromkeys((*DCN, *ENDS), "F16")),
    "they take the float of the chip": (
        (*OFFSETS, *HEADS), ["all"], "INT8", "F32", FLOAT | dict.fromkeys((*DCN, *ENDS), "F32")),
    "heads without concatenation": (
        (*OFFSETS, *HEADS[:-1]), ["wh.2", "hm"], "INT8", "F16", FLOAT | dict.fromkeys((*DCN, *ENDS), "F16")),
    "a convolution feeds sampler and head": (
        (*OFFSETS, ("end", "Relu", ("offset_mask",))), ["end", "dcn"], "INT8", "F16",
        FLOAT | dict.fromkeys((*DCN, "end"), "F16")),
    "no sampler, half precision": (PLAIN, ["all"], "F16", "F16", {}),
    "no sampler, int8": (PLAIN, ["all"], "INT8", "F16", dict.fromkeys(ENDS, "F16")),
    "a map of several heads is no head": (
        SHARED, ["hm", "wh", "reg"], "INT8", "F16", dict.fromkeys(("hm", "wh", "reg"), "F16")),
}  # fmt: skip
"""Operators, outputs, precision, float of the chip, and the quantisation table."""


@pytest.mark.parametrize("case", CASES)
def test_operators_that_need_it_stay_in_float(tmp_path: Path, case: str) -> None:
    rows, returned, mode, chip_float, expected = CASES[case]
    assert table(tmp_path, mlir(rows, returned), mode, chip_float) == expected


def test_sum_with_a_constant_stays_in_float_under_int8_where_a_relu_is_part_of_it(tmp_path: Path) -> None:
    sums: list[Row] = [("input", "Input", ()), ("sum", "AddConst", ("input",)), ("with relu", "AddConst", ("sum",))]
    ends: list[Row] = [("trunk", "Conv", ("with relu",)), ("hm", "Conv", ("trunk",)), ("wh", "Conv", ("trunk",))]
    lines = mlir([*sums, *ends], ["hm", "wh"]).splitlines()
    lines = [line.replace("do_relu = false", "do_relu = true") if "loc(#loc3)" in line else line for line in lines]
    assert table(tmp_path, "\n".join(lines), "INT8") == dict.fromkeys(("with relu", "hm", "wh"), "F16")


def test_operator_of_several_results_is_followed_through_each(tmp_path: Path) -> None:
    text = mlir(OFFSETS, ["dcn"])
    offset, mask = (next(row for row in text.splitlines() if f"(#loc{n})" in row) for n in (4, 8))
    split = offset.replace("%4 =", "%4:2 =").replace("top.Slice", "top.Split")
    text = text.replace(offset, split).replace(mask + "\n", "").replace("(%4)", "(%4#0)").replace("(%8)", "(%4#1)")
    assert "%4:2 = " in text
    assert table(tmp_path, text, "INT8") == FLOAT | dict.fromkeys((part for part in DCN if part != "mask"), "F16")


@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_of_deformable_convolutions_in_a_row_the_last_alone_samples_in_float32(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    """Each has another number of operators between offsets and sampler, and a plain convolution behind it."""
    rows: list[Row] = [("input", "Input", ()), ("conv", "Conv", ("input",))]
    samplings, convolutions, last = list[list[str]](), ["end"], "conv"
    for place, length in enumerate(lengths):
        rows.append((before := f"offset{place}", "Conv", (last,)))
        steps = [f"step{place}.{step}" for step in range(length)]
        for step in steps:
            rows.append((step, "Reshape", (before,)))
            before = step
        rows += [(f"taps{place}", "GridSampler", (last, before)), (f"sum{place}", "Conv", (f"taps{place}",))]
        rows.append((last := f"plain{place}", "Conv", (f"sum{place}",)))
        samplings.append([*steps, f"taps{place}"])
        convolutions += [f"offset{place}", f"sum{place}"]
    text, folder = mlir([*rows, ("end", "Conv", (last,))], ["end"]), tmp_path_factory.mktemp("graph")
    float32 = dict.fromkeys(samplings[-1], "F32")
    assert table(folder, text, "F16") == float32
    before_last = [name for sampling in samplings[:-1] for name in sampling]
    assert table(folder, text, "INT8") == dict.fromkeys([*before_last, *convolutions], "F16") | float32


def test_names_are_those_of_the_locations_fused_or_not(tmp_path: Path) -> None:
    text = mlir(OFFSETS, ["dcn"]).replace('loc("offset_mask")', 'loc(fused["offset_mask", "relu"])')
    text = text.replace("loc(#loc5)", 'loc("in place")')
    found = table(tmp_path, text, "INT8")
    assert (found["offset_mask"], found["in place"]) == ("F16", "F32")


@pytest.mark.parametrize(
    "text", ["", "module @m {\n}\n", mlir(OFFSETS, ["dcn"]).replace("top.", "Top "), mlir(OFFSETS, ["dcn"])[:400]]
)
def test_file_that_is_no_graph_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(HarnessError, match="not the graph of a model") as caught:
        table(tmp_path, text, "F16")
    assert caught.value.file == str(tmp_path / "m.mlir")


CPU = '    %9 = "tpu.GenericCpu"(%5, %8) {{{}param = {{mode = 0 : i64}}}} : (none) -> none loc(#loc9)\n'


def test_operators_of_the_host_are_listed_each_time_in_order_if_there_are_any(tmp_path: Path) -> None:
    lowered = tmp_path / "m_tpu.mlir"
    named = [CPU.format(f'cpu_op_name = "{name}", ') for name in ("grid_sampler", "topk", "grid_sampler")]
    lowered.write_text(mlir(OFFSETS, ["dcn"]).replace("top.", "tpu.") + "".join(named) + CPU.format(""))
    assert host_operators(lowered) == ["grid_sampler", "topk", "grid_sampler", "unnamed"]
    lowered.write_text(mlir(OFFSETS, ["dcn"]).replace("top.", "tpu."))
    assert host_operators(lowered) == []


def profile(runtime: str, flops: int, traffic: Mapping[str, int]) -> str:
    """Write the end of the compiler's profile of one part of a model."""
    directions = "|".join(f"dr[{i}] {name}:{size}" for i, (name, size) in enumerate(traffic.items()))
    return (
        "Conv_1|CONV|s:3320|b:1|g:3|e:116215|t:112896   Load_2|TENSOR|s:0|b:0|g:1|e:173|t:174|dr:0|sz:2352\n"
        f"API_END total_cycle:21727386|b:15166|g:2423\nGDMA SUMMARY : |{directions}\nDDR BW USAGE : 38.0%\n\n\n"
        f"flops: {flops}, runtime: {runtime}ms, ComputationAbility: 0.251T\n"
    )


def test_estimate_is_what_the_compiler_says(tmp_path: Path) -> None:
    text = profile("21.727386", 5455880192, {"S2L": 300_000_000, "L2S": 200_000_000, "S2S": 313_344, "L2L": 77})
    (tmp_path / "compiler_profile_0.txt").write_text(text)
    found = read_estimate(tmp_path, "bm1684x")
    assert (found.latency_ms, found.flops, found.ddr_bytes) == (21.727386, 5455880192, 500_313_344)
    assert ddr_floor_ms(found.ddr_bytes, "bm1684x") == pytest.approx(7.28, abs=0.01)
    assert ddr_floor_ms(found.ddr_bytes, "bm1684") == pytest.approx(14.56, abs=0.01)
    assert ddr_floor_ms(found.ddr_bytes, "unknown") is None
    assert "64 GiB/s" in found.note


def test_parts_of_a_model_add_up_in_time_and_traffic_and_each_states_the_whole_models_flops(tmp_path: Path) -> None:
    parts = [("11.046567", 10), ("0.000000", 0), ("0.254951", 5), ("0.000000", 0)]
    text = "".join(profile(runtime, 5455880192, {"S2L": size, "L2S": size, "S2S": 1}) for runtime, size in parts)
    (tmp_path / "_0.dat").write_bytes(b"\xff\x00\n" + text.encode())
    found = read_estimate(tmp_path, "bm1684")
    assert found.latency_ms == pytest.approx(11.301518)
    assert (found.flops, found.ddr_bytes) == (5455880192, 34)
    assert "550 MHz" in found.note


def test_estimate_without_traffic_has_no_floor(tmp_path: Path) -> None:
    (tmp_path / "compiler_profile_0.txt").write_text("flops: 7, runtime: 0.5ms, ComputationAbility: 1T\n")
    assert ddr_floor_ms(read_estimate(tmp_path, "bm1688").ddr_bytes, "bm1688") is None


def test_missing_or_foreign_profile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="wrote no profile"):
        read_estimate(tmp_path, "bm1684x")
    (tmp_path / "compiler_profile_0.txt").write_text("runtime: 3 ms\n")
    with pytest.raises(HarnessError, match=r"compiler_profile_0\.txt: the compiler's profile has no line"):
        read_estimate(tmp_path, "bm1684x")


INFO = """\
bmodel version: B.2.2+v1.30.2-20260831
chip: BM1684X
==========================================
net 0: [m]  static
------------
stage 0, core num: 1
input: input, [4, 3, 64, 96], float32, scale: 1, zero_point: 0
output: hm_Conv_f32, [4, 80, 16, 24], float32, scale: 1, zero_point: 0
output: my, head [0], [4, 2, 16, 24], int8, scale: 1.5e-02, zero_point: -3

device mem size: 48242048 (weight: 13815808, instruct: 1183104, runtime: 33243136)
host mem size: 0 (weight: 0, runtime: 0)
"""


def test_statement_of_a_bmodel_is_read_whole() -> None:
    found = parse_info(INFO, Path("m.bmodel"))
    assert (found.chip, found.device_bytes) == ("bm1684x", 48242048)
    assert found.inputs == (StatedTensor("input", (4, 3, 64, 96), "float32", 1.0, 0),)
    assert found.outputs == (
        StatedTensor("hm_Conv_f32", (4, 80, 16, 24), "float32", 1.0, 0),
        StatedTensor("my, head [0]", (4, 2, 16, 24), "int8", 0.015, -3),
    )


@pytest.mark.parametrize("missing", ["chip: ", "input: ", "output: "])
def test_statement_without_chip_or_tensors_is_refused(missing: str) -> None:
    with pytest.raises(HarnessError, match=r"m\.bmodel: not a bmodel that model_tool can read"):
        parse_info(INFO.replace(missing, ""), Path("m.bmodel"))
