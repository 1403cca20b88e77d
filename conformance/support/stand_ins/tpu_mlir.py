"""A stand-in for Sophon's tpu_mlir: its tools take and leave what the real ones do, and run in ONNX Runtime.

This file is copied as each of the tools; which one it is to be, it sees from the name that it is called by. A tool
makes the mistakes that the variable `MISTAKES` names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.devices.artifact import Exported

TOOLS = ("model_transform", "run_calibration", "model_deploy", "model_runner", "model_tool")
MISTAKES = "FAKE_TPU_MLIR_MISTAKES"
STARTS = "starts"
"""In the environment's folder: the name of a tool for each time that one was started."""
DATASET = "dataset"
"""In the environment's folder: what the last calibration was given."""
LATENCY_MS = 2.5
"""The compiler's estimate for one image."""


def install(cache: Path) -> Path:
    """Put the stand-in where the drivers look for tpu_mlir; its folder."""
    from harness.convert.tpu_mlir.environment import COMPLETE, VERSION

    root = cache / "toolchains" / f"tpu_mlir-{VERSION}"
    (root / "bin").mkdir(parents=True)
    for name in TOOLS:
        tool = root / "bin" / name
        tool.write_text(f"#!{sys.executable}\n{Path(__file__).read_text(encoding='utf-8')}", encoding="utf-8")
        tool.chmod(0o755)
    modules = root / "modules"
    modules.mkdir()
    (modules / "tpu_mlir.py").touch()
    shutil.copy(Path(__file__).with_name("pymlir.py"), modules / "pymlir.py")
    python = root / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    (root / COMPLETE).touch()
    return root


def static(card: Path, onnx_file: Path, target: Path, batch_size: int) -> Exported:
    """A model of any batch size, without a DCN, as the chips take it: of one batch size."""
    import onnx

    from harness.cards import load_model_card
    from harness.devices.artifact import Exported

    model = onnx.load(onnx_file)
    del model.graph.value_info[:]
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = batch_size
    onnx.save(model, target)
    return Exported(load_model_card(card), "decomposed", path=target)


def starts(root: Path) -> list[str]:
    """The tools that were started, in order."""
    return (root / STARTS).read_text().split() if (root / STARTS).exists() else []


def makes(mistake: str) -> bool:
    """Tell whether this tool is to make a mistake."""
    return mistake in os.environ.get(MISTAKES, "").split(",")


def model_transform(given: argparse.Namespace) -> None:
    """Read an ONNX, write the graph with one convolution for each output."""
    import onnx

    graph = onnx.load(given.model_def).graph
    if any(node.op_type == "DeformConv" for node in graph.node):
        sys.exit("RuntimeError: Op not support:{'DeformConv'}")
    shapes = [[d.dim_value for d in tensor.type.tensor_type.shape.dim] for tensor in graph.input]
    assert json.loads(given.input_shapes) == shapes
    if makes("transform-fails"):
        Path(given.mlir).write_text("module")
        print("loading\nAssertionError: shapes")
        sys.exit(3)
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    assert given.output_names.split(",") == [output.name for output in graph.output]
    names = [f"{output.name}_{made_by[output.name]}" for output in graph.output]
    rows = [f'    %{i} = "top.Conv"(%0) {{pads = [1]}} : (t) -> t loc(#loc{i})' for i in range(1, len(names) + 1)]
    returned = ", ".join(f"%{i}" for i in range(1, len(names) + 1))
    places = [f'#loc{i} = loc("{name}")' for i, name in enumerate(names, start=1)]
    first = '    %0 = "top.Input"(%arg0) {} : (t) -> t loc(#loc)'
    Path(given.mlir).write_text("\n".join(["module @m {", first, *rows, f"    return {returned} : t", "}", *places]))
    shutil.copy(given.model_def, "model.onnx")
    called = dict(zip((output.name for output in graph.output), names, strict=True))
    tensors = [(tensor.name, [d.dim_value for d in tensor.type.tensor_type.shape.dim]) for tensor in graph.output]
    Path("model.json").write_text(
        json.dumps({"called": called, "input": [graph.input[0].name, shapes[0]], "outputs": tensors})
    )


def run_calibration(given: argparse.Namespace) -> None:
    """Keep the samples, write a table."""
    target = Path(sys.argv[0]).parent.parent / DATASET
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(given.dataset, target)
    assert len(list(target.iterdir())) == int(given.input_num)
    Path(given.o).write_text("# op_name    threshold    min    max\n")


def model_deploy(given: argparse.Namespace) -> None:
    """Lower the graph, say how fast it will be, and write a bmodel."""
    if makes("deploy-killed"):
        print("out of memory", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if given.quantize == "INT8":
        assert Path(given.calibration_table).is_file()
    graph = Path(given.mlir).read_text().replace("top.", "tpu.")
    if makes("host-operator"):
        graph += '\n    %99 = "tpu.GenericCpu"(%1) {cpu_op_name = "grid_sampler", param = {}} : (t) -> t loc(#loc1)\n'
    lowered = f"m_{given.chip}_{given.quantize.lower()}_tpu"
    Path(f"{lowered}.mlir").write_text(graph)
    with zipfile.ZipFile(f"{lowered}_weights.npz", "w") as weights:
        for name in ("model.onnx", "model.json"):
            weights.write(name)
    if makes("no-bmodel") or given.not_gen_bmodel:
        return
    moved = 10**12 if makes("faster-than-memory") else 10**6
    latency = LATENCY_MS * (2 if makes("slow") else 1)
    Path("_0.dat" if given.chip == "bm1684" else "compiler_profile_0.txt").write_text(
        f"GDMA SUMMARY : |dr[0] S2L:{moved}|dr[1] L2S:{moved}|dr[2] S2S:0|dr[3] L2L:0\n\n"
        f"flops: 5455880192, runtime: {latency:.6f}ms, ComputationAbility: 0.25T\n"
    )
    chip = "bm1688" if makes("other-chip") else given.chip
    with zipfile.ZipFile(given.model, "w") as bmodel:
        bmodel.write("model.onnx")
        model = json.loads(Path("model.json").read_text())
        suffix = "" if given.quantize == "F32" else "_f32"
        called = {name: base + suffix for name, base in model["called"].items()}
        bmodel.writestr("model.json", json.dumps({**model, "called": called, "chip": chip, "mode": given.quantize}))


def load(path: str) -> tuple[bytes, dict[str, Any]]:
    """The ONNX of a bmodel, and what it states."""
    with zipfile.ZipFile(path) as bmodel:
        return bmodel.read("model.onnx"), json.loads(bmodel.read("model.json"))


def model_runner(given: argparse.Namespace) -> None:
    """Run a bmodel on the images of a file."""
    import numpy as np
    import onnxruntime as ort

    model, stated = load(given.model)
    names, mode = stated["called"], stated["mode"]
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(given.input) as images:
        found: dict[str, Any] = dict(zip(names, session.run(list(names), dict(images)), strict=True))
    if mode in ("F16", "BF16"):
        found = {name: values.astype(np.float16).astype(np.float32) for name, values in found.items()}
    if mode == "INT8":
        found = {name: np.round(values * 256) / np.float32(256) for name, values in found.items()}
    if makes("nan"):
        found["wh"][0, 1, 2, 3] = np.nan
    if makes("dropped-output"):
        del found["reg"]
    if not makes("no-outputs"):
        np.savez(given.output, **{names[name]: values for name, values in reversed(found.items())})


def model_tool(given: argparse.Namespace) -> None:
    """Say what a bmodel states about itself."""
    stated = load(given.info)[1]
    print(f"bmodel version: B.2.2\nchip: {stated['chip'].upper()}\nnet 0: [m]  static\nstage 0, core num: 1")
    outputs = [("output", stated["called"][name], shape) for name, shape in stated["outputs"]]
    for side, name, shape in (("input", *stated["input"]), *outputs):
        print(f"{side}: {name}, {shape}, float32, scale: 1, zero_point: 0")
    print("\ndevice mem size: 2097152 (weight: 1, instruct: 1, runtime: 1)")


def main() -> None:
    """Be the tool that this file is called by."""
    name = Path(sys.argv[0]).name
    with (Path(sys.argv[0]).parent.parent / STARTS).open("a") as file:
        file.write(f"{name}\n")
    parser = argparse.ArgumentParser()
    if name == "run_calibration":
        parser.add_argument("mlir")
    else:
        for option in ("model_name", "model_def", "input_shapes", "output_names", "channel_format"):
            parser.add_argument(f"--{option}")
        for option in ("mlir", "quantize", "chip", "model"):
            parser.add_argument(f"--{option}")
    for option in ("quantize_table", "calibration_table", "dataset", "input_num", "cali_method", "tune_num"):
        parser.add_argument(f"--{option}")
    for option in ("input", "output", "info"):
        parser.add_argument(f"--{option}")
    parser.add_argument("-o")
    parser.add_argument("--not_gen_bmodel", action="store_true")
    globals()[name](parser.parse_args())


if __name__ == "__main__":
    main()
