"""Stand-ins for tools of Ascend's CANN: atc, npu-smi, ais_bench, msit and benchmark.x86_64, as they are documented.

This file is copied as each of the tools; which one it is to be, it sees from the name that it is called by. They know
no chip: every time they state is made up, and every command that they leave behind holds "stand-in". A tool makes the
mistakes that the variable `MISTAKES` names.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MISTAKES = "STAND_IN_CANN_MISTAKES"
CHIP = "STAND_IN_CANN_CHIP"
"""Variable with the name of the chip that npu-smi shows, and for which an om must be made."""
EMULATED = "STAND_IN_CANN_EMULATES"
"""Variable that makes atc put the chip's arithmetic into the graph, which is computed in float32 otherwise."""
TOOLS = ("atc", "npu-smi", "msit", "benchmark.x86_64")
FOLDER = "stand-ins"
SOCS = ("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310B1", "Ascend310B4")
NEWEST_OPSET = 16
Array = np.ndarray[Any, Any]
Samples = dict[str, dict[str, list[str]]]
"""By number: the input files and the output files of an image."""
STARTED = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
CANN_LOG = "[INFO] GE(4242,python3):2026-11-21-16:00:00.000.000 [model.cc:77]4242 Load: model loaded"
NPU_SMI = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc3                                 Version: 23.0.rc3                                      |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 2       {name:<22}| OK              | 15.8         42                0    / 0              |
| 0       0                     | 0000:82:00.0    | 0            1074 / 21534                            |
+===============================+=================+======================================================+
"""


def install(root: Path) -> dict[str, str]:
    """Put the stand-ins below `root`; the variables of the environment that has them, the chip a 310P3."""
    source = Path(__file__).read_text(encoding="utf-8")
    programs, packages = root / FOLDER / "bin", root / FOLDER / "python"
    programs.mkdir(parents=True)
    for name in TOOLS:
        (programs / name).write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
        (programs / name).chmod(0o755)
    (packages / "ais_bench").mkdir(parents=True)
    (packages / "ais_bench" / "__init__.py").touch()
    (packages / "ais_bench" / "__main__.py").write_text(source, encoding="utf-8")
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(packages), CHIP: "310P3"}


def makes(mistake: str) -> bool:
    """Tell whether this tool is to make a mistake."""
    return mistake in os.environ.get(MISTAKES, "").split(",")


def refuse(code: str, text: str) -> None:
    """End as atc does."""
    print(f"{FAILURE}\n{code}: {text}")
    sys.exit(1)


def atc(given: Sequence[str]) -> None:
    """Convert: check what the real one checks, and keep the graph with what it was told."""
    import onnx

    if makes("silent"):
        sys.exit(1)
    print(STARTED, flush=True)
    options = dict(argument.removeprefix("--").split("=", 1) for argument in given)
    if makes("hang"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "child of the stand-in"])
        time.sleep(600)
    if options["soc_version"] not in SOCS:
        refuse("EE1001", f"Soc version [{options['soc_version']}] is invalid")
    model = onnx.load(options["model"])
    check_domains(model)
    (name, shape), *_ = (part.rsplit(":", 1) for part in options["input_shape"].split(";"))
    if name != model.graph.input[0].name:
        refuse("E10001", "Value [-1] for parameter [x] is invalid. Reason: maybe you should set input_shape to specify")
    nodes = {f"{node.name}:{i}": output for node in model.graph.node for i, output in enumerate(node.output)}
    asked = options["out_nodes"].split(";")
    for node in asked:
        if node not in nodes:
            refuse("E10016", f"Opname [{node}] specified in [--out_nodes] is not found in the model")
    if makes("success without om"):
        print(SUCCESS)
        return
    aipp = Path(options["insert_op_conf"]).read_text() if "insert_op_conf" in options else None
    stated = {
        "soc": options["soc_version"],
        "shape": [int(side) for side in shape.split(",")],
        "aipp": None if aipp is None else dict(re.findall(r"(\w+): (\S+)", aipp)),
        "nodes": asked,
        "outputs": [nodes[node] for node in asked],
        "made by": "a stand-in for atc",
    }
    if EMULATED in os.environ:
        from harness.emulation.ascend import runnable

        model = runnable(model, fp16=True)  # float16 between the layers, as ATC compiles by default
    with zipfile.ZipFile(f"{options['output']}.om", "w") as om:
        om.writestr("model.onnx", model.SerializeToString())
        om.writestr("stated.json", json.dumps(stated))
    print("failed to print" if makes("no success word") else SUCCESS)


def check_domains(model: Any) -> None:  # noqa: ANN401 - of ONNX, which is imported late
    """Refuse what no parser is registered for."""
    if len(model.opset_import) > 1:
        refuse("E16005", "The model has [2] [--domain_version] fields, but only one is allowed.")
    opset = model.opset_import[0].version
    for node in model.graph.node:
        unknown = node.op_type == "DeformConv" or not 9 <= opset <= NEWEST_OPSET
        if unknown and not makes("any opset"):
            kind = f"ai.onnx::{opset}::{node.op_type}"
            refuse("EZ9010", f"No parser is registered for Op [{node.name}, optype [{kind}]].")


class Om:
    """A converted graph, loaded."""

    def __init__(self, path: str) -> None:
        import onnxruntime as ort

        with zipfile.ZipFile(path) as om:
            model, self.stated = om.read("model.onnx"), json.loads(om.read("stated.json"))
        chip = f"Ascend{os.environ[CHIP]}"
        if self.stated["soc"] != chip:
            print(f"[ERROR] load model from file failed, ret: 500002. EE1001: om for {self.stated['soc']} on {chip}")
            sys.exit(1)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # which would drop the roundings
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.shape: list[int] = self.stated["shape"]
        self.batch = self.shape[0]

    @property
    def input_bytes(self) -> int:
        """Bytes of a whole batch: float32, or with AIPP uint8."""
        return math.prod(self.shape) * (1 if self.stated["aipp"] else 4)

    def execute(self, raw: bytes) -> list[Array]:
        """Run the graph on raw bytes, read as the input without any check."""
        images = self._normalised(raw) if self.stated["aipp"] else np.frombuffer(raw, "<f4").reshape(self.shape)
        return list(self.session.run(self.stated["outputs"], {self.session.get_inputs()[0].name: images}))

    def _normalised(self, raw: bytes) -> Array:
        """``(pixel - min_chn) * var_reci_chn`` after the exchange of red and blue."""
        batch, channels, height, width = self.shape
        pixels = np.frombuffer(raw, np.uint8).reshape(batch, height, width, channels).astype(np.float64)
        aipp = self.stated["aipp"]
        if aipp["rbuv_swap_switch"] == "true":
            pixels = pixels[..., ::-1]
        low, factor = ([float(aipp[f"{name}_chn_{i}"]) for i in range(3)] for name in ("min", "var_reci"))
        return np.ascontiguousarray(((pixels - low) * factor).transpose(0, 3, 1, 2).astype(np.float32))

    def milliseconds(self) -> float:
        """Return an invented time, the same in every run."""
        return 4.0 + self.batch


def natural(path: Path) -> list[Any]:
    """Key of an order in which numbers count as such."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", path.name)]


def batches_of(files: Sequence[Path], om: Om) -> Iterator[tuple[list[Path], bytes]]:
    """The files of each batch, and its bytes; missing ones are replaced by the first of the same batch."""
    size = files[0].stat().st_size
    if om.input_bytes % size:
        print(f"[ERROR] arg0 tensorsize: {om.input_bytes} filesize: {size} not match")
        sys.exit(1)
    per_batch = om.input_bytes // size
    for start in range(0, len(files), per_batch):
        some = list(files[start : start + per_batch])
        padded = some + [some[0]] * (per_batch - len(some))
        yield some, b"".join(path.read_bytes() for path in padded)


def ais_bench(given: Sequence[str]) -> None:
    """Run the files of a folder, or zeros where no folder is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", "-m", "--om-model", "-om", required=True)
    parser.add_argument("--input", "-i")
    parser.add_argument("--output", "-o")
    parser.add_argument("--output_dirname", "--output-dirname", "-od", default="2026_11_21-16_00_00")
    parser.add_argument("--outfmt", default="BIN")
    parser.add_argument("--loop", "-l", type=int, default=1)
    parser.add_argument("--device", "-d", default="0")
    parser.add_argument("--batchsize", "--batch-size", type=int)
    options = parser.parse_args(given)
    om = Om(options.model)
    print(CANN_LOG)
    folder = None if options.output is None else Path(options.output) / options.output_dirname
    samples: Samples = {}
    times: list[float] = []
    given_files = Path(options.input).iterdir() if options.input else ()
    files = sorted((path for path in given_files if path.suffix in (".bin", ".npy")), key=natural)
    for some, raw in batches_of(files, om) if files else [([Path("pure_infer_data")], bytes(om.input_bytes))]:
        outputs = om.execute(raw)
        times += [om.milliseconds()] * options.loop
        print(f"\rloop inference exec: ({len(times)}/{len(times)})", end="")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            save(outputs, some, folder, options.outfmt.lower(), samples)
    report(options, times, om, samples, folder)


def save(outputs: Sequence[Array], files: Sequence[Path], folder: Path, kind: str, samples: Samples) -> None:
    """A file an image and output, named after the image up to its first dot; padded slots have none."""
    for slot, file in enumerate(files):
        written = []
        for index, output in enumerate(outputs):
            values = output if len(files) == 1 and len(output) != 1 else output[slot : slot + 1]
            path = folder / f"{file.name.split('.')[0]}_{index}.{kind}"
            if kind == "npy":
                np.save(path, values)
            elif kind == "txt":
                np.savetxt(path, values.reshape(-1, values.shape[-1]), fmt="%f")
            else:
                values.tofile(path)
            written.append(str(path))
        samples[str(len(samples))] = {"infiles": [str(file)], "outfiles": written}


def report(options: argparse.Namespace, times: list[float], om: Om, samples: object, folder: Path | None) -> None:
    """Print the statistics, and write the summary beside the folder."""
    batch, mean = options.batchsize or om.batch, sum(times) / len(times)
    dots = "-----------------"
    statistics = dict.fromkeys(("min", "max", "mean", "median", "percentile(99%)"), mean)
    if not makes("prints nothing"):
        print(f"\n[INFO] {dots}Performance Summary{dots}-")
        print(f"[INFO] NPU_compute_time (ms): {', '.join(f'{key} = {value}' for key, value in statistics.items())}")
        print(f"[INFO] throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({mean}): {1000 * batch / mean}")
        print(f"[INFO] {dots * 3}")
    if folder is not None:
        summary = {
            "filesinfo": samples,
            "args": sys.argv,
            "NPU_compute_time": {**statistics, "count": len(times)},
            "throughput": 1000 * batch / mean,
            "npu_compute_time_list": times,
            "pid": os.getpid(),
        }
        Path(f"{folder}_summary.json").write_text(json.dumps(summary))


def benchmark(given: Sequence[str]) -> None:
    """Run the files of a list; results count from 1."""
    options = dict(argument.removeprefix("-").split("=", 1) for argument in given)
    om, device, batch = Om(options["om_path"]), options["device_id"], int(options["batch_size"])
    files = [Path(line.split()[1]) for line in Path(options["input_text_path"]).read_text().splitlines()]
    folder = Path("result") / f"dumpOutput_device{device}"
    folder.mkdir(parents=True, exist_ok=True)
    for some, raw in batches_of(files, om):
        for index, output in enumerate(om.execute(raw), start=1):
            for slot, file in enumerate(some):
                output[slot].tofile(folder / f"{file.stem}_{index}.bin")
    rate = 1000 * batch / om.milliseconds()
    lines = [
        f"[e2e] throughputRate: {rate / 2}, latency: {2000 * len(files) / rate}",
        f"[data read] throughputRate: {9 * rate}, moduleLatency: {1000 / 9 / rate}",
        f"[preprocess] throughputRate: {8 * rate}, moduleLatency: {1000 / 8 / rate}",
        f"[infer] throughputRate: {rate * 0.9}, Interface throughputRate: {rate}, moduleLatency: {1000 / rate}",
        f"[post] throughputRate: {7 * rate}, moduleLatency: {1000 / 7 / rate}",
    ]
    Path("result", f"perf_vision_batchsize_{batch}_device_{device}.txt").write_text("\n".join([*lines, ""]))


def main() -> None:
    """Be the tool that this file is called by."""
    name, given = Path(sys.argv[0]).name, sys.argv[1:]
    if name == "npu-smi":
        print(NPU_SMI.format(name=os.environ[CHIP]))
    elif name == "atc":
        atc(given)
    elif name == "benchmark.x86_64":
        benchmark(given)
    else:
        ais_bench(given[1:] if name == "msit" else given)


if __name__ == "__main__":
    main()
