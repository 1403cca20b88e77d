"""`compare`: the files of a port that runs elsewhere are judged by stage, and what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from conformance.catalogue.adequacy import example_log
from conformance.support.command_line import run
from conformance.support.suite import read_results
from conformance.support.tiny import TinySetup
from harness.checks.evaluate import evaluate_records
from harness.data.detections import to_coco_json
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.exchange.heads import write_heads
from harness.exchange.inputs import write_inputs
from harness.faults import CATALOGUE
from harness.run.pipeline import detect
from harness.run.subject import load_subject

Files = dict[str, Path]


@pytest.fixture(scope="module")
def files(tiny: TinySetup, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of a right port."""
    folder, card, dataset = tmp_path_factory.mktemp("port"), tiny.model_card, tiny.dataset
    device, module = TorchDevice(), load_subject(tiny.model_card, tiny.weights, None).module
    artifact = device.convert(Exported(card, "module", module=module), 1, "fp32")
    found = {name: folder / name for name in ("inputs", "heads", "detections", "claim", "speed")}
    write_inputs(card, dataset, found["inputs"])
    write_heads(device, artifact, card, dataset, 1, found["heads"], sha256="")
    rows = to_coco_json(detect(device, artifact, card, dataset, 1)[0], card.category_ids)
    found["detections"].write_text(json.dumps(rows))
    metrics = evaluate_records(dataset.instances, rows)
    found["claim"].write_text(json.dumps({"AP": metrics.AP, "images": metrics.images}))
    found["speed"].write_text(example_log().model_dump_json())
    return found


def compare(tiny: TinySetup, files: Files) -> tuple[int, str]:
    options = {"model": tiny.card, "weights": tiny.weights, "coco": tiny.coco, **files}
    status, out, err = run("compare", *(part for name, value in options.items() for part in (f"--{name}", value)))
    return status, out + err


def test_files_of_a_right_port_conform(tiny: TinySetup, files: Files) -> None:
    status, output = compare(tiny, files)
    assert status == 0, output
    assert "verdict: conforms, 11 images" in output
    for stage in ("preprocess", "heads", "detections", "evaluate", "speed", "accuracy"):
        assert f"stage {stage}: 0 of " in output


def test_the_document_is_that_of_the_suite(tiny: TinySetup, files: Files, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    wrong = edited(files["detections"], tmp_path, corners)
    for detections, verdict in ((files["detections"], "conforms"), (wrong, "deviates")):
        assert compare(tiny, {"detections": detections, "results": results})[0] == (verdict == "deviates")
        document = read_results(results)
        assert document is not None
        [run] = document.runs
        assert (document.verdict, run.verdict, run.execution) == (verdict, verdict, "elsewhere")
        assert {stage.name for stage in run.stages} == {"detections", "accuracy"}
        [accuracy] = run.accuracy
        assert accuracy.reference_AP - accuracy.AP > accuracy.allowed_loss or verdict == "conforms"
        assert bool(run.diagnosis) == (verdict == "deviates")
    speed_alone = compare(tiny, {"speed": files["speed"]})
    assert speed_alone[0] == 0
    assert "verdict: measured" in speed_alone[1]


def test_rows_by_the_old_name_are_refused_and_kept(tiny: TinySetup, files: Files) -> None:
    before = files["detections"].read_bytes()
    status, output = compare(tiny, {"results": files["detections"]})
    assert (status, files["detections"].read_bytes()) == (4, before)
    assert f"remedy: give --detections {files['detections']}" in output


def edited(file: Path, folder: Path, edit: Any) -> Path:  # noqa: ANN401 - any function of what the file holds
    content = json.loads(file.read_text())
    changed = edit(content)
    (folder / file.name).write_text(json.dumps(content if changed is None else changed))
    return folder / file.name


def corners(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, x + width, y + height]


@pytest.mark.parametrize(
    ("name", "edit", "stages", "fault"),
    [
        ("detections", corners, ("detections", "accuracy"), "boxes-corners"),
        ("speed", lambda log: {**log, "fps": 2 * log["fps"]}, ("speed",), "fps-times-chips"),
    ],
)
def test_what_is_wrong_is_named_in_its_stage(
    tiny: TinySetup, files: Files, tmp_path: Path,
    name: str, edit: Any, stages: tuple[str, ...], fault: str,  # noqa: ANN401
) -> None:  # fmt: skip
    given = {part: file for part, file in files.items() if part != "claim"}
    status, output = compare(tiny, {**given, name: edited(files[name], tmp_path, edit)})
    assert status == 1
    wrong = [line for line in output.splitlines() if line.startswith("stage") and ": 0 of" not in line]
    assert [line.split(":")[0] for line in wrong] == [f"stage {name}" for name in stages]
    [description] = [one.description for one in CATALOGUE if one.id == fault]
    assert f"diagnosis: {description}" in output


def test_figures_that_the_results_do_not_read_deviate(tiny: TinySetup, files: Files, tmp_path: Path) -> None:
    claim = edited(files["claim"], tmp_path, lambda figures: {**figures, "AP": figures["AP"] - 0.1})
    status, output = compare(tiny, {"detections": files["detections"], "claim": claim})
    assert status == 1
    assert "stage evaluate: 1 of 2 comparisons deviate: AP: measured 0.1" in output
    assert "diagnosis: unknown: none of the known mistakes gives these figures" in output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("speed", '{"batch_size": 4}', "not a speed log"),
        ("claim", "[]", "not an object of figures"),
        ("inputs", None, "no such file"),
    ],
)
def test_files_that_are_none_are_refused(
    tiny: TinySetup, files: Files, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    file = tmp_path / "given"
    if text is not None:
        file.write_text(text)
    status, output = compare(tiny, {"detections": files["detections"], name: file})
    assert status == 4
    assert message in output
    assert "remedy: " in output
