"""The command line: its verbs do what the library does, and leave nothing half done."""

import inspect
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness.cli.progress
from conformance.support.command_line import run
from conformance.support.default_signals import default_signals
from conformance.support.small_training import six_images, small_card
from conformance.support.tiny import CARD as TINY_CARD
from harness.centernet.networks import create_model
from harness.centernet.training import Settings
from harness.cli import train as training
from harness.data.dataset import Dataset, load_coco
from harness.data.detections import to_coco_json
from harness.devices.artifact import Exported
from harness.devices.torch import TorchDevice
from harness.run.pipeline import batches, detect
from harness.training.checkpoint import save_weights
from harness.training.weights import load_weights, read_state_dict
from harness.types import Batch

CARD = TINY_CARD.replace('"tiny"', '"small"').replace("width = 0.0625", "width = 0.125").replace("[1, 4]", "[2]")
"""The network of `small_card`, for batches of two images of 64x64 pixels."""


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of six images of the embedded training half, which also stand for val2017."""
    root = six_images(tmp_path_factory.mktemp("data")).folder.parent
    (root / "val2017").symlink_to(root / "train2017")
    (root / "annotations" / "instances_val2017.json").symlink_to(root / "annotations" / "instances_train2017.json")
    return root


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(CARD)
    return tmp_path / "small.toml"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    save_weights(create_model("res_18", width=0.125).state_dict(), path)
    return path


def test_dataset_writes_what_the_suite_reads(tmp_path: Path) -> None:
    status, out, err = run("dataset", "--split", "val", "--output", tmp_path, "--limit", 3)
    assert status == 0
    assert len(load_coco(Path(out.strip()))) == 3
    assert err.splitlines()[-1] == "embedded data set, val: 3 of 3"


def detected(weights: Path, images: Dataset) -> list[dict[str, Any]]:
    """COCO records of the library itself."""
    card = small_card(height=64, width=64)
    module = create_model("res_18", card.head_channels, None, 0.125)
    load_weights(module, weights)
    device = TorchDevice()
    artifact = device.convert(Exported(card, "module", module=module.eval()), 2, "fp32")
    return to_coco_json(detect(device, artifact, card, images, 2)[0], card.category_ids)


def test_stages_in_a_row_give_what_the_suite_gives(card: Path, weights: Path, coco: Path, tmp_path: Path) -> None:
    heads, results = tmp_path / "heads", tmp_path / "results.json"
    data = ("--model", card, "--coco", coco)
    status, out, _ = run("infer", *data, "--device", "torch", "--weights", weights, "--output", heads)
    assert (status, out) == (0, f"6 images on torch (silicon), fp32, batch size 2: {heads}\n")
    status, out, _ = run("decode", *data, "--heads", heads, "--output", results)
    expected, found = detected(weights, load_coco(coco)), json.loads(results.read_text())
    assert (status, out) == (0, f"{len(expected)} detections in 6 images: {results}\n")
    for key in ("image_id", "category_id"):
        assert [record[key] for record in found] == [record[key] for record in expected]
    for key, atol in (("score", 1e-6), ("bbox", 1e-3)):
        np.testing.assert_allclose([r[key] for r in found], [r[key] for r in expected], rtol=0, atol=atol)


def test_score_prints_twelve_numbers_and_what_they_are_of(coco: Path, tmp_path: Path) -> None:
    truth = [entry for entry in load_coco(coco).instances.annotations if not entry.iscrowd]
    records = [{**asdict(entry), "score": 1.0} for entry in truth]
    keys = ("image_id", "category_id", "bbox", "score")
    (tmp_path / "r.json").write_text(json.dumps([{key: record[key] for key in keys} for record in records]))
    status, out, _ = run("score", "--coco", coco, "--detections", tmp_path / "r.json")
    assert status == 0
    *numbers, last = out.splitlines()
    printed = dict(line.split() for line in numbers)
    assert ",".join(printed) == "AP,AP50,AP75,APs,APm,APl,AR1,AR10,AR100,ARs,ARm,ARl,images"
    assert {printed[name] for name in ("AP", "AP50", "AP75", "AR100")} == {"1.0000"}
    assert float(printed["AR1"]) < 1  # images have several objects of a class
    assert printed["images"] == "6"
    assert last == "6 of the images have detections"


def test_rounding_is_that_of_the_official_tools(card: Path, weights: Path, coco: Path, tmp_path: Path) -> None:
    data = ("--model", card, "--coco", coco, "--limit", 2)
    run("infer", *data, "--device", "torch", "--weights", weights, "--output", tmp_path / "heads")
    decode = ("decode", *data, "--heads", tmp_path / "heads", "--output")
    run(*decode, tmp_path / "exact.json")
    run(*decode, tmp_path / "rounded.json", "--rounding")
    exact, rounded = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("exact", "rounded"))
    assert exact != rounded
    for before, after in zip(exact, rounded, strict=True):
        np.testing.assert_allclose(after["bbox"], before["bbox"], atol=0.00501)
        assert all(value == float(f"{value:.2f}") for value in (*after["bbox"], after["score"]))


def test_exported_file_runs_as_the_weights_do(card: Path, weights: Path, coco: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "small.onnx"
    status, out, _ = run("export", "--model", card, "--weights", weights, "--batch-size", 2, "--output", onnx)
    assert (status, out) == (0, f"{onnx}\n")
    data = ("--model", card, "--coco", coco, "--limit", 3)
    run("infer", *data, "--device", "torch", "--weights", weights, "--output", tmp_path / "torch")
    assert run("infer", *data, "--device", "onnxruntime", "--onnx", onnx, "--output", tmp_path / "onnx")[0] == 0
    names = sorted(path.name for path in (tmp_path / "torch").glob("*.npz"))
    assert len(names) == 3
    for name in names:
        with np.load(tmp_path / "torch" / name) as expected, np.load(tmp_path / "onnx" / name) as found:
            for head in ("hm", "wh", "reg"):
                np.testing.assert_allclose(found[head], expected[head], atol=1e-4)
    card.write_text(CARD.replace("width = 64", "width = 96"))
    for option, message in ((("--batch-size", 3), "batches of exactly 2"), ((), "the card says (2, 3, 64, 96)")):
        status, _, err = run("infer", *data, "--onnx", onnx, *option, "--output", tmp_path / "other")
        assert status == 4
        assert message in err


def test_preprocess_writes_a_file_an_image(card: Path, coco: Path, tmp_path: Path) -> None:
    status, out, err = run("preprocess", "--model", card, "--coco", coco, "--limit", 2, "--output", tmp_path / "in")
    assert (status, out) == (0, f"2 images for small: {tmp_path / 'in'}\n")
    assert err == "preprocessing: 1 of 2\npreprocessing: 2 of 2\n"
    assert [path.stat().st_size for path in (tmp_path / "in").glob("*.bin")] == [3 * 64 * 64 * 4] * 2


def test_output_that_is_in_use_is_refused(card: Path, coco: Path, tmp_path: Path) -> None:
    status, _, err = run("preprocess", "--model", card, "--coco", coco, "--output", tmp_path)
    assert status == 4
    assert "not an empty folder" in err


def test_device_that_deviates_ends_with_1(
    card: Path, weights: Path, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TorchDevice.run
    monkeypatch.setattr(
        TorchDevice, "run", lambda *args: {name: head.swapaxes(1, 3) for name, head in honest(*args).items()}
    )
    data = ("--model", card, "--coco", coco, "--weights", weights)
    status, _, err = run("infer", *data, "--device", "torch", "--output", tmp_path / "heads")
    assert status == 1
    assert "expected shape (2, 80, 16, 16)" in err
    assert not (tmp_path / "heads").exists()


def test_heads_that_are_not_finite_end_with_1_and_name_the_file(card: Path, coco: Path, tmp_path: Path) -> None:
    heads = {"hm": np.full((80, 16, 16), np.nan), "wh": np.zeros((2, 16, 16)), "reg": np.zeros((2, 16, 16))}
    stem = Path(load_coco(coco, limit=1).instances.images[0].file_name).stem
    np.savez(tmp_path / f"{stem}.npz", **heads)
    out = tmp_path / "results.json"
    status, _, err = run("decode", "--model", card, "--coco", coco, "--limit", 1, "--heads", tmp_path, "--output", out)
    assert status == 1
    assert "head hm" in err
    assert f"{stem}.npz" in err
    assert not out.exists()


def test_options_of_training_default_to_its_settings() -> None:
    options = inspect.signature(training.train).parameters
    for field in fields(Settings):
        if field.name != "iterations":
            assert options[field.name].default == field.default, field.name


@pytest.fixture
def train(card: Path, coco: Path, tmp_path: Path) -> tuple[object, ...]:
    short = ("--iterations", 4, "--batch-size", 2, "--crop", 64)
    return ("train", "--model", card, "--coco", coco, *short, "--output", tmp_path / "run")


def test_training_writes_weights_that_can_be_used(train: tuple[object, ...], tmp_path: Path) -> None:
    status, out, err = run(*train, "--half", "--seed", 3, "--learning-rate", 0.02, "--bfloat16")
    path = tmp_path / "run" / "weights.pth"
    assert (status, out) == (0, f"{path}\n")
    assert re.search(r"^training: 4 of 4 loss \d+\.\d{3}$", err, re.MULTILINE)
    settings = torch.load(tmp_path / "run" / "last.pth", weights_only=True)["settings"]
    assert settings == asdict(Settings(4, batch_size=2, crop=64, learning_rate=0.02, seed=3, bfloat16=True))
    trained = read_state_dict(tmp_path / "run" / "last.pth")
    model = create_model("res_18", width=0.125)
    load_weights(model, path)
    half = trained["conv1.weight"].half().float()
    assert bool((model.get_parameter("conv1.weight") == half).all())


def test_interrupted_training_goes_on_with_the_same_command(
    train: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(harness.cli.progress._Lines):
        def __call__(self, done: int, total: int, note: str = "") -> None:
            if done == 3:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch, default_signals():
        patch.setattr(harness.cli.progress, "_Lines", Interrupting)
        status, _, err = run(*train)
    assert (status, err.splitlines()[-1]) == (143, "ended by SIGTERM")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pth"]
    status, _, err = run(*train)
    assert status == 0
    assert [line.split(" loss")[0] for line in err.splitlines()] == ["training: 4 of 4"]
    assert (tmp_path / "run" / "weights.pth").is_file()


@pytest.mark.parametrize(
    ("verb", "number", "expected"), [("infer", signal.SIGINT, 130), ("preprocess", signal.SIGTERM, 143)]
)
def test_interrupted_stage_leaves_nothing(
    card: Path,
    weights: Path,
    coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    number: signal.Signals,
    expected: int,
) -> None:
    def interrupted(*arguments: object) -> Iterator[Batch]:
        yield next(batches(*arguments))  # type: ignore[arg-type]
        signal.raise_signal(number)

    module = "heads" if verb == "infer" else "inputs"
    monkeypatch.setattr(f"harness.exchange.{module}.batches", interrupted)
    options = ("--device", "torch", "--weights", weights) if verb == "infer" else ()
    with default_signals():
        status, _, err = run(verb, "--model", card, "--coco", coco, *options, "--output", tmp_path / "out")
    assert (status, err.splitlines()[-1]) == (expected, f"ended by {number.name}")
    assert "of 6" in err  # it had begun
    assert [path.name for path in tmp_path.iterdir()] == [card.name]
