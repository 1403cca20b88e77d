"""A dry run over three hosts without the chip, by stand-ins for Ascend's tools: the AP arrives unchanged."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import pytest

from conformance.support.command_line import run
from conformance.support.stand_ins import cann as stand_in_cann
from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import TinySetup
from harness.cards import load_model_card
from harness.checks.evaluate import evaluate
from harness.devices.artifact import Exported
from harness.devices.registry import create_device
from harness.exchange.output_folder import detect_outputs, open_outputs
from harness.run.pipeline import detect

STEMS = [f"{image_id:012}" for image_id in range(139, 510, 37)]
INPUT_BYTES, HM_BYTES, BOX_BYTES = 49152, 81920, 2048
"""3 x 64 x 64, 80 x 16 x 16 and 2 x 16 x 16 values of float32."""
ONE_BY_ONE, BY_FOUR = "tiny-310p3-bs1", "tiny-310p3-bs4"


@dataclass(frozen=True, slots=True)
class DryRun:
    """Folders of the hosts.

    Attributes:
        tiny: Model and data.
        npu: The folder of the host with the chip: ``inputs``, and a folder for each conversion.
        environment: Of the host with the stand-ins.
    """

    tiny: TinySetup
    npu: Path
    environment: Mapping[str, str]

    @property
    def exported(self) -> tuple[str | Path, ...]:
        """Options of a conversion that takes the ONNX of the first, lest each export its own."""
        given = ("--model", self.tiny.card, "--weights", self.tiny.weights, "--device", "ascend310p")
        return (*given, "--onnx", self.npu / "bs1" / f"{ONE_BY_ONE}.onnx")

    @property
    def data(self) -> tuple[str | Path, ...]:
        return ("--model", self.tiny.card, "--coco", self.tiny.coco)

    def on_npu(self, folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a README in a folder of the host with the chip."""
        own = {**self.environment, **variables}
        words = [sys.executable if word == "python3" else word for word in shlex.split(command)]
        return subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def dry_run(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> DryRun:
    """Inputs and a folder of conversion for batch sizes 1 and 4, as the first host leaves them."""
    npu = tmp_path_factory.mktemp("npu-host")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **stand_in_cann.install(npu)}
    dry_run = DryRun(tiny, npu, environment)
    assert run("preprocess", *dry_run.data, "--output", npu / "inputs")[0] == 0
    for size, given in ((1, dry_run.exported[:-2]), (4, dry_run.exported)):
        status, out, err = run("convert", *given, "--batch-size", size, "--output", npu / f"bs{size}")
        assert status == 0, err
        assert "no om, since atc is not here: no atc on the PATH, and ASCEND_TOOLKIT_HOME is not set" in out
        (npu / f"bs{size}" / "inputs").symlink_to(npu / "inputs")
    return dry_run


def readme_commands(folder: Path) -> list[str]:
    """Commands that the README of a carried folder gives, without those that set the vendor's environment."""
    lines = (folder / "README.md").read_text().splitlines()
    return [line.strip() for line in lines if re.match(r"    (sh|python3) ", line)]


@pytest.fixture(scope="module")
def returned(dry_run: DryRun) -> Path:
    """Run the commands of both READMEs; the om of batch size 4 has the chip's arithmetic."""
    for size, emulates in ((1, {}), (4, {stand_in_cann.EMULATED: "1"})):
        for command in readme_commands(dry_run.npu / f"bs{size}"):
            ended = dry_run.on_npu(dry_run.npu / f"bs{size}", command, **emulates)
            assert ended.returncode == 0, ended.stdout + ended.stderr
    return dry_run.npu


def direct_ap(dry_run: DryRun, precision: str = "fp16") -> float:
    """That of the emulated chip, which the stand-ins compute with, without any file between."""
    device, card = create_device("ascend310p:emulated"), dry_run.tiny.model_card
    path = next((dry_run.npu / "bs1").glob("*.onnx"))
    artifact = device.convert(Exported(card, "ascend", path=path), 1, precision)
    results, _ = detect(device, artifact, card, dry_run.tiny.dataset, 1)
    return evaluate(dry_run.tiny.dataset.instances, results, card.category_ids).AP


def ap_of(dry_run: DryRun, folder: Path) -> float:
    card, images = dry_run.tiny.model_card, dry_run.tiny.dataset
    return evaluate(images.instances, detect_outputs(open_outputs(card, images, folder)), card.category_ids).AP


def test_inputs_are_files_of_one_image_named_after_it(dry_run: DryRun) -> None:
    files = {path.name: path.stat().st_size for path in (dry_run.npu / "inputs").glob("*.bin")}
    assert files == {f"{stem}.bin": INPUT_BYTES for stem in STEMS}


def test_folder_to_carry_holds_model_command_and_instructions(dry_run: DryRun) -> None:
    folder = dry_run.npu / "bs4"
    files = {f"{BY_FOUR}.onnx", "README.md", "card.toml", "convert.sh"}
    assert {path.name for path in folder.iterdir()} >= files | {"manifest.json"}
    graph = onnx.load(folder / f"{BY_FOUR}.onnx").graph
    nodes = [node.name for node in graph.node if set(node.output) & {"hm", "wh", "reg"}]
    command = (
        f"atc --framework=5 --model={BY_FOUR}.onnx --output={BY_FOUR} --input_format=NCHW "
        f"--input_shape=input:4,3,64,64 '--out_nodes={':0;'.join(nodes)}:0' --log=info --soc_version=Ascend310P3"
    )
    assert command in (folder / "convert.sh").read_text().splitlines()
    assert readme_commands(folder) == [
        "sh convert.sh",
        f"python3 -m ais_bench --model {BY_FOUR}.om --input inputs --output result --output_dirname {BY_FOUR} "
        "--batchsize 4",
        f"python3 -m ais_bench --model {BY_FOUR}.om --output result --output_dirname {BY_FOUR}-speed --loop 20 "
        "--batchsize 4",
    ]
    assert load_model_card(str(folder / "card.toml")) == dry_run.tiny.model_card
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["soc"], manifest["batch_size"], manifest["opset"]) == ("Ascend310P3", 4, {"ai.onnx": 11})
    assert list(manifest["outputs"]) == ["hm", "wh", "reg"]
    assert set(manifest["sha256"]) == files


def test_stand_in_leaves_the_files_that_ais_bench_is_documented_to_leave(returned: Path) -> None:
    result = returned / "bs4" / "result"
    sizes = {path.name: path.stat().st_size for path in (result / BY_FOUR).iterdir()}
    wanted = {0: HM_BYTES, 1: BOX_BYTES, 2: BOX_BYTES}
    assert sizes == {f"{stem}_{i}.bin": size for stem in STEMS for i, size in wanted.items()}
    summary = json.loads((result / f"{BY_FOUR}_summary.json").read_text())
    assert list(summary["filesinfo"]) == [str(i) for i in range(11)]
    assert "stand-in" in summary["args"][0]


@pytest.mark.parametrize(("size", "precision"), [(1, "fp32"), (4, "fp16")])
def test_ap_over_three_hosts_is_that_of_the_direct_run(
    dry_run: DryRun, returned: Path, size: int, precision: str
) -> None:
    folder = returned / f"bs{size}" / "result" / f"tiny-310p3-bs{size}"
    direct = direct_ap(dry_run, precision)
    assert direct > 0.3
    assert ap_of(dry_run, folder) == pytest.approx(direct, abs=1e-6)
    assert ap_of(dry_run, folder) == ap_of(dry_run, folder)


def test_score_says_what_the_outputs_are_and_how_fast_the_tool_says_they_were_made(
    dry_run: DryRun, returned: Path
) -> None:
    outputs = returned / "bs4" / "result" / BY_FOUR
    status, out, err = run("score", *dry_run.data, "--device", "ascend310p", "--outputs", outputs)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0] == (
        "outputs made elsewhere, said to be of ascend310p: ais_bench, .bin, float32; hm = output 0, wh = output 1, "
        "reg = output 2 (by size and content; places count from 0)"
    )
    # Three batches of 4 + 4 ms for 11 images.
    assert re.match(
        r"speed measured elsewhere: 458\.3 images/s at batch size 4; ais_bench, tiny-310p3-bs4_summary\.json, by "
        r"\S*stand-ins/python/ais_bench/__main__\.py: model execution alone.*; 1 padded slots are no images; "
        r"0\.\d% of 70 TFLOPS a chip",
        lines[1],
    ), lines[1]
    assert re.search(r"^images +11$", out, re.MULTILINE)


def test_suite_checks_what_came_back_against_the_reference(suite: Suite, returned: Path) -> None:
    outputs = returned / "bs4" / "result" / BY_FOUR
    ended = suite.run(*CHECKS, f"--outputs={outputs}", "--batch-sizes=4", "--device=ascend310p", "--precision=fp16")
    assert ended.status == 0, ended.output
    found = ended.run_of("ascend310p:outputs")
    assert (found.execution, found.verdict) == ("elsewhere", "conforms")
    assert "stand-ins" in found.executed["command"]
    assert ended.outcomes("ascend310p:outputs", 4)["heads"] == "passed"
    assert found.perf == ()
    figures = [line for line in ended.output.splitlines() if line.startswith("ascend310p") and "0." in line]
    assert figures
    assert all("(elsewhere)" in line for line in figures)


def test_suite_reports_the_speed_that_the_tool_states_and_times_nothing_itself(suite: Suite, returned: Path) -> None:
    outputs = returned / "bs4" / "result" / BY_FOUR
    asked = ("--batch-sizes=4", "--device=ascend310p", "--precision=fp16")
    ended = suite.run("conformance/device/test_perf.py", f"--outputs={outputs}", *asked)
    assert ended.status == 0, ended.output
    [perf] = ended.run_of("ascend310p:outputs").perf
    assert perf.fps == pytest.approx(11 / 0.024)
    assert perf.interval.startswith("stated elsewhere: ais_bench, tiny-310p3-bs4_summary.json, by ")
    stages = ended.outcomes("ascend310p:outputs", 4)
    assert (stages["stated speed"], stages["perf"]) == ("not-applicable", "not-applicable")
    reason = ended.stage("ascend310p:outputs", "stated speed", 4).detail or ""
    assert "the peak is not verified (Huawei, data sheet of Atlas 300I Pro" in reason


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--batch-sizes=1", "the outputs were made with batch size 4, and 1 was asked for"),
        ("--batch-sizes=1,4", "a folder of outputs is of one device and one batch size"),
    ],
)
def test_suite_refuses_outputs_of_another_batch_size(suite: Suite, returned: Path, option: str, message: str) -> None:
    ended = suite.run(*CHECKS, f"--outputs={returned / 'bs4' / 'result' / BY_FOUR}", option)
    assert ended.status == 4
    assert message in ended.output


def test_suite_finds_outputs_that_deviate(suite: Suite, returned: Path, tmp_path: Path) -> None:
    """Width and height of each box are exchanged."""
    import numpy as np

    for path in (returned / "bs1" / "result" / ONE_BY_ONE).iterdir():
        values = np.fromfile(path, np.float32)
        if path.stem.endswith("_1"):
            values = np.roll(values, len(values) // 2)
        values.tofile(tmp_path / path.name)
    ended = suite.run(*CHECKS, f"--outputs={tmp_path}")
    assert (ended.status, ended.run_of("outputs").verdict) == (1, "deviates")
    assert ended.stage("outputs", "heads", 1).outcome == "failed"
    assert ended.run_of("outputs").diagnosis[0].faults == ("wh-axes-swapped",)


def test_runner_that_prints_nothing_has_its_times_in_the_summary(
    dry_run: DryRun, returned: Path, tmp_path: Path
) -> None:
    om = returned / "bs4" / f"{BY_FOUR}.om"
    silent = replace(dry_run, environment={**dry_run.environment, stand_in_cann.MISTAKES: "prints nothing"})
    command = f"python3 -m ais_bench --model {om} --input {dry_run.npu}/inputs --output . --output_dirname out"
    ended = silent.on_npu(tmp_path, command)
    assert "throughput" not in ended.stdout
    _, out, _ = run("score", *dry_run.data, "--outputs", tmp_path / "out")
    assert "speed measured elsewhere: 458.3 images/s at batch size 4" in out


@pytest.mark.parametrize("tool", ["msit", "benchmark.x86_64"])
def test_other_runners_bring_the_same_ap(dry_run: DryRun, returned: Path, tmp_path: Path, tool: str) -> None:
    om = returned / "bs4" / f"{BY_FOUR}.om"
    if tool == "msit":
        command = f"msit benchmark -om {om} --input {dry_run.npu}/inputs -o result -od out --batch-size 4"
    else:
        files = sorted((dry_run.npu / "inputs").glob("*.bin"), reverse=True)  # its lists are not sorted
        (tmp_path / "list.info").write_text("".join(f"{i} {path} 64 64\n" for i, path in enumerate(files)))
        command = f"benchmark.x86_64 -model_type=vision -device_id=0 -batch_size=4 -om_path={om} "
        command += "-input_text_path=list.info -input_width=64 -input_height=64 -output_binary=true -useDvpp=false"
    ended = dry_run.on_npu(tmp_path, command)
    assert ended.returncode == 0, ended.stdout
    assert ap_of(dry_run, tmp_path / "result") == pytest.approx(direct_ap(dry_run), abs=1e-6)
    if tool == "benchmark.x86_64":
        names = sorted(path.name for path in (tmp_path / "result" / "dumpOutput_device0").iterdir())
        assert names[:3] == [f"000000000139_{i}.bin" for i in (1, 2, 3)]
        _, out, _ = run("score", *dry_run.data, "--device", "ascend310", "--outputs", tmp_path / "result")
        assert "2000 images/s at batch size 4; 500 a chip; benchmark.x86_64" in out


def test_om_with_aipp_takes_pixels_and_brings_the_same_ap(dry_run: DryRun, tmp_path: Path) -> None:
    folder = tmp_path / "aipp"
    assert run("convert", *dry_run.exported, "--aipp", "--output", folder)[0] == 0
    card = ("--model", folder / "card.toml", "--coco", dry_run.tiny.coco)
    assert run("preprocess", *card, "--output", folder / "inputs")[0] == 0
    assert {path.stat().st_size for path in (folder / "inputs").glob("*.bin")} == {3 * 64 * 64}
    for command in readme_commands(folder)[:2]:
        assert dry_run.on_npu(folder, command).returncode == 0
    assert ap_of(dry_run, folder / "result") == pytest.approx(direct_ap(dry_run, "fp32"), abs=1e-4)


def test_float_files_given_to_an_om_of_pixels_are_found_out(dry_run: DryRun, tmp_path: Path) -> None:
    """A float image has the bytes of four images of pixels: the tool takes it for a batch of four without a word."""
    folder = tmp_path / "aipp"
    run("convert", *dry_run.exported, "--batch-size", 4, "--aipp", "--output", folder)
    (folder / "inputs").symlink_to(dry_run.npu / "inputs")
    for command in readme_commands(folder)[:2]:
        assert dry_run.on_npu(folder, command).returncode == 0
    status, _, err = run("score", *dry_run.data, "--outputs", folder / "result")
    assert status == 4
    assert "as large as 4 images, as if the om took one input file for a whole batch of 4" in err
