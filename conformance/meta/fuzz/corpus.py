"""Real files of every format that the suite reads, made by the suite itself from the tiny model."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from conformance.support.command_line import run
from conformance.support.tiny import TinySetup
from conformance.support.training_logs import EVALUATION, SUMMARY, Run, every_20
from harness.cards.device import card_file
from harness.cards.recipe import RECIPES
from harness.data.dataset import load_coco
from harness.paths import data_path

IMAGES = 2

EXPECTATIONS = """\
[[expectation]]
test = "test_heads.py::test_device_heads_equal_reference"
stage = "heads"
precision = "fp32"
batch_size = 4
reason = "the second sample of a batch is stale"
source = "vendor issue 123"
since = "2026-11"
until = "2027-06-30"

[[expectation]]
test = "test_accuracy.py::*"
stage = "accuracy"
precision = "int8"
reason = "calibrated on other images"
source = "vendor issue 124"
since = "2026-11"
until = "2027-06-30"
"""
PERF = (
    "[e2e] throughputRate: 80.5, latency: 8012.1\n[data read] throughputRate: 82.5, moduleLatency: 12.1\n"
    "[preprocess] throughputRate: 80.5, moduleLatency: 12.4\n[inference] throughputRate: 86.1, Interface "
    "throughputRate: 120.3, moduleLatency: 10.2\n[postprocess] throughputRate: 80.1, moduleLatency: 12.5\n"
)
PURE = "Samples:\nave_throughputRate: 120.5samples/s, ave_latency: 8.3ms\n"
PRINTED = "[INFO] throughput 1000*batchsize.mean(1)/NPU_compute_time.mean(10.0): 100.0\n"


def make_corpus(root: Path, tiny: TinySetup) -> None:
    """Write one folder for each kind of file into the empty folder `root`."""
    for name in ("card.toml", "weights.pth", "model.onnx"):
        shutil.copy(tiny.root / f"tiny{Path(name).suffix}", root / name)
    _images(root, tiny)
    given = ("--model", root / "card.toml", "--coco", root / "coco")
    _made("preprocess", "--output", root / "inputs", *given)
    _made("infer", "--device", "torch", "--weights", root / "weights.pth", "--output", root / "heads", *given)
    _made("decode", "--heads", root / "heads", "--output", root / "rows.json", *given)
    for kind in ("bin", "npy", "txt"):
        _outputs(root, kind)
    _text(root)
    _documents(root)
    trained = ("--iterations", 1, "--batch-size", 1, "--crop", 128, "--split", "val2017", "--output", root / "training")
    _made("train", *trained, *given)
    (root / "training" / "weights.pth").unlink()
    for part in ("1", "2"):
        shard = ("--shard", f"{part}/2", "--batch-sizes", 1, "--results", root / f"shard-{part}.json")
        _made("check", "--device", "torch", "--weights", root / "weights.pth", *shard, *given)


def _made(*arguments: object) -> None:
    status, _, said = run(*arguments)
    assert status == 0, said


def _images(root: Path, tiny: TinySetup) -> None:
    """Write the data set: one image as JPEG, one as PNG."""
    dataset = load_coco(tiny.coco, limit=IMAGES)
    file = root / "coco" / "annotations" / "instances_val2017.json"
    file.parent.mkdir(parents=True)
    (root / "coco" / "val2017").mkdir()
    content = json.loads((tiny.coco / "annotations" / file.name).read_text())
    ids = set(dataset.image_ids)
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids][:5]
    for image, suffix in zip(content["images"], (".jpg", ".png"), strict=True):
        pixels = dataset.read_image(image["id"])
        image["file_name"] = f"{image['id']:012d}{suffix}"
        assert cv2.imwrite(str(root / "coco" / "val2017" / image["file_name"]), pixels)
    file.write_text(json.dumps(content))


def _outputs(root: Path, kind: str) -> None:
    """Write outputs as ais_bench does, with its summary and logs where they are binary."""
    folder = root / f"outputs_{kind}"
    folder.mkdir()
    for file in sorted((root / "heads").glob("*.npz")):
        with np.load(file) as saved:
            for index, head in enumerate(("hm", "wh", "reg")):
                place = folder / f"{file.stem}_{index}.{kind}"
                if kind == "npy":
                    np.save(place, saved[head][None])
                elif kind == "bin":
                    place.write_bytes(saved[head].tobytes())
                else:
                    np.savetxt(place, saved[head].reshape(-1, saved[head].shape[-1]), "%f")


def _text(root: Path) -> None:
    folder = root / "outputs_bin"
    names = [file.name for file in sorted(folder.iterdir())]
    samples = {str(place): {"infile": f"{name}", "outfiles": [name]} for place, name in enumerate(names)}
    arguments = ["/usr/bin/ais_bench", "--model", "m.om", "--batchsize", "1", "--loop=1"]
    times: dict[str, Any] = {"npu_compute_time_list": [[0.0, 10.5], [11.0, 21.25]], "throughput": 96.2}
    (folder / "summary.json").write_text(json.dumps({"filesinfo": samples, "args": arguments, **times}))
    (folder / "perf_vision_batchsize_1_device_0.txt").write_text(PERF)
    (folder / "PureInfer_perf_of_m_bs1_in_device_0.txt").write_text(PURE)
    (folder / "run.log").write_text(PRINTED)
    batches = [
        {"images": 2, "start_ms": 10.0 * n, "enqueued_ms": 10.0 * n + 1, "done_ms": 10.0 * n + 9} for n in range(4)
    ]
    log = {"batch_size": 2, "chips": 1, "warm_up": 1, "batches": batches, "fps": 206.9}
    (root / "speed.json").write_text(json.dumps(log))
    training = Run(every_20(199))
    (root / "training.log").write_text(training.text() + EVALUATION)
    shutil.copy(RECIPES / "centernet2_1x.toml", root / "recipe.toml")
    (root / "metrics.json").write_text(training.json_lines())
    (root / "CenterNet2_bs64_8p_acc.log").write_text(SUMMARY)
    (root / "claim.json").write_text(json.dumps({"AP": 0.5, "AP50": 0.7, "images": IMAGES}))


def _documents(root: Path) -> None:
    document = json.loads(data_path("reports", "baselines", "embedded-onnxruntime.json").read_text())
    old = {key: value for key, value in document.items() if key != "expected_failures"}
    for name in ("results.json", "now.json"):
        (root / name).write_text(json.dumps(document))
    (root / "results_1.json").write_text(json.dumps({**old, "schema": 1}))
    shutil.copy(card_file("ascend310p"), root / "chip.toml")
    (root / "chip.expectations.toml").write_text(EXPECTATIONS)
