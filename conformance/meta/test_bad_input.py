"""Whatever a user gives that is damaged, missing or of something else is named: file, field, cause and remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import onnx
import pytest
import torch

from conformance.support.suite import CHECKS, Suite
from conformance.support.tiny import ARCH, WIDTH, TinySetup
from harness.cards.model import COCO_CATEGORY_IDS
from harness.centernet.networks import create_model
from harness.data.dataset import load_coco

Made = tuple[str, Path, str, str]
"""Option, the file that is wrong, what is said of it, and the remedy."""


def cut(source: Path, target: Path, share: float = 0.5) -> Path:
    target.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    return target


def card_with(tiny: TinySetup, folder: Path, old: str, new: str) -> Path:
    card = folder / "card.toml"
    assert old in tiny.card.read_text()
    card.write_text(tiny.card.read_text().replace(old, new))
    return card


def truncated_weights(tiny: TinySetup, folder: Path) -> Made:
    file = cut(tiny.weights, folder / "half.pth")
    return f"--weights={file}", file, "the file is truncated or no PyTorch checkpoint", "download it again"


def pointer_as_weights(tiny: TinySetup, folder: Path) -> Made:
    file = folder / "pointer.pth"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return f"--weights={file}", file, "this is a Git LFS pointer", "run 'git lfs pull'"


def weights_of_another_architecture(tiny: TinySetup, folder: Path) -> Made:
    file = folder / "dla.pth"
    torch.save(create_model("dlav0_34", width=WIDTH).state_dict(), file)
    return f"--weights={file}", file, "state_dict: the checkpoint is not of this network: ", "check arch, width"


def weights_of_other_classes(tiny: TinySetup, folder: Path) -> Made:
    file = folder / "pascal.pth"
    torch.save(create_model(ARCH, {"hm": 20, "wh": 2, "reg": 2}, width=WIDTH).state_dict(), file)
    said = "state_dict: the checkpoint is not of this network: 2 of another shape: hm.2.bias is (20,), expected (80,)"
    return f"--weights={file}", file, said, "check arch, width, head_conv and the number of classes on the model card"


def missing_weights(tiny: TinySetup, folder: Path) -> Made:
    file = folder / "none.pth"
    return f"--weights={file}", file, "cannot read the weights: No such file or directory", "check the path"


def truncated_onnx(tiny: TinySetup, folder: Path) -> Made:
    file = cut(tiny.onnx, folder / "half.onnx")
    return f"--onnx={file}", file, "the file is truncated or no ONNX", "check the path, and compare the file's size"


def onnx_with_other_outputs(tiny: TinySetup, folder: Path) -> Made:
    model, file = onnx.load(tiny.onnx), folder / "renamed.onnx"
    model.graph.node.add(op_type="Identity", input=["hm"], output=["heatmap"])
    model.graph.output[0].name = "heatmap"
    onnx.save(model, file)
    said = "output.names: the model has outputs heatmap, wh, reg, the card says hm, wh, reg"
    return f"--onnx={file}", file, said, "correct this field of the model card"


def onnx_of_another_size(tiny: TinySetup, folder: Path) -> Made:
    card = card_with(tiny, folder, "height = 64", "height = 96")
    said = "input: the model has input 'input' of shape (?, 3, 64, 64), the card says (1, 3, 96, 64)"
    return f"--model={card}", tiny.onnx, said, "correct these fields of the model card"


def misspelt_key(tiny: TinySetup, folder: Path) -> Made:
    card = card_with(tiny, folder, "geometry =", "geometri =")
    return f"--model={card}", card, "input.geometri: unknown key", "did you mean 'geometry'?"


def wrong_type(tiny: TinySetup, folder: Path) -> Made:
    card = card_with(tiny, folder, "height = 64", 'height = "64"')
    return f"--model={card}", card, "input.height: Input should be a valid integer (it is '64')", "correct the card"


def impossible_shape(tiny: TinySetup, folder: Path) -> Made:
    card = card_with(tiny, folder, "width = 64", "width = 65")
    return f"--model={card}", card, "input.width: Input should be a multiple of 32 (it is 65)", "correct the card"


def no_annotations(tiny: TinySetup, folder: Path) -> Made:
    (folder / "coco" / "val2017").mkdir(parents=True)
    file = folder / "coco" / "annotations" / "instances_val2017.json"
    remedy = "give --coco the folder that holds annotations/instances_val2017.json"
    return f"--coco={folder / 'coco'}", file, "cannot be read: No such file or directory", remedy


def truncated_annotations(tiny: TinySetup, folder: Path) -> Made:
    root = shutil.copytree(tiny.coco, folder / "coco")
    file = root / "annotations" / "instances_val2017.json"
    cut(tiny.coco / "annotations" / file.name, file)
    return f"--coco={root}", file, "truncated or corrupt: ", "download it again"


def missing_images(tiny: TinySetup, folder: Path) -> Made:
    root = shutil.copytree(tiny.coco, folder / "coco")
    gone = sorted((root / "val2017").iterdir())[3:]
    for image in gone:
        image.unlink()
    said = f"8 of 11 images are not there: {', '.join(image.name for image in gone[:5])}, ..."
    return f"--coco={root}", root / "val2017", said, "or give --limit to use fewer"


def results_folder_that_is_a_file(tiny: TinySetup, folder: Path) -> Made:
    (folder / "taken").write_text("")
    file = folder / "taken" / "r.json"
    return f"--baseline={file}", file, "--baseline: cannot be read: Not a directory", "make one with --results FILE"


BAD: list[Callable[[TinySetup, Path], Made]] = [
    truncated_weights, pointer_as_weights, weights_of_another_architecture, weights_of_other_classes, missing_weights,
    truncated_onnx, onnx_with_other_outputs, onnx_of_another_size, misspelt_key, wrong_type, impossible_shape,
    no_annotations, truncated_annotations, missing_images, results_folder_that_is_a_file,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_named_before_any_test_runs(
    suite: Suite, tiny: TinySetup, tmp_path: Path, make: Callable[[TinySetup, Path], Made]
) -> None:
    option, file, said, remedy = make(tiny, tmp_path)
    ended = suite.run("--device=right", option, *CHECKS)
    assert (ended.status, ended.result.verdict, ended.result.runs) == (4, "error", ())
    [problem] = ended.result.problems
    assert problem.startswith(f"{file}: ")
    assert said in problem
    assert remedy in problem.partition("\n  remedy: ")[2]
    assert problem in ended.output
    assert not any(word in ended.output for word in ("Traceback", "INTERNALERROR", "collected"))


def test_images_that_are_there_suffice_under_a_limit(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    option, *_ = missing_images(tiny, tmp_path)
    ended = suite.run("--device=right", option, "--limit=3", "--batch-sizes=4", *CHECKS)
    assert (ended.status, ended.result.verdict) == (0, "conforms")
    assert ended.result.data is not None
    assert ended.result.data.images == 3
    assert [accuracy.images for accuracy in ended.run_of("right").accuracy] == [3]


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_truncated_image_is_named_and_is_no_deviation(suite: Suite, tiny: TinySetup, tmp_path: Path, kind: str) -> None:
    root = shutil.copytree(tiny.coco, tmp_path / "coco")
    dataset = load_coco(root)
    image_id = dataset.image_ids[0]
    good, bad = dataset.path(image_id), dataset.path(image_id).with_suffix(kind)
    encoded = cv2.imencode(kind, dataset.read_image(image_id))[1].tobytes()
    good.unlink()
    bad.write_bytes(encoded[: len(encoded) // 2])
    annotations = root / "annotations" / "instances_val2017.json"
    text = json.loads(annotations.read_text())
    next(entry for entry in text["images"] if entry["id"] == image_id)["file_name"] = bad.name
    annotations.write_text(json.dumps(text))
    ended = suite.run("--device=right", f"--coco={root}", "--batch-sizes=4", *CHECKS)
    assert (ended.status, ended.result.verdict, ended.run_of("right").verdict) == (4, "error", "error")
    said = f"not a whole image ({len(encoded) // 2} bytes)\n  remedy: download it again, or restore the file"
    assert ended.result.problems == (f"{bad}: {said}",)
    assert not any(word in ended.output for word in ("Traceback", "INTERNALERROR"))
    assert set(ended.outcomes("right", 4).values()) == {"passed"}


def test_onnx_of_one_batch_size_says_which(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    model, file = onnx.load(tiny.onnx), tmp_path / "four.onnx"
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, file)
    ended = suite.run("--device=right", f"--onnx={file}", *CHECKS)
    assert ended.status == 4
    assert ended.result.problems == (
        f"{file}: --batch-sizes: the model takes batches of exactly 4, and 1 was asked for\n"
        "  remedy: use --batch-sizes 4, or export the model again with batch size 1 or any",
    )
    ended = suite.run("--device=right", f"--onnx={file}", "--batch-sizes=4", *CHECKS)
    assert (ended.status, ended.result.verdict) == (0, "conforms")
    assert ended.stage("right", "batch", 4).outcome == "not-applicable"


def test_card_without_network_needs_an_onnx(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    lines = tiny.card.read_text().splitlines()
    start = lines.index("[network]")
    card = tmp_path / "foreign.toml"
    card.write_text("\n".join(lines[:start] + lines[start + 3 :]))
    options = ["-p", "no:cacheprovider", f"--model={card}", f"--coco={tiny.coco}", "--device=right"]
    for given, said in (
        ([], "model 'tiny' ships without weights"),
        ([f"--weights={tiny.weights}"], "model 'tiny' has no [network] that weights could be loaded into"),
    ):
        ended = suite.run(*given, *CHECKS, options=options)
        assert ended.status == 4
        assert f"ERROR: --weights: {said}\n  remedy: " in ended.output
    assert suite.run(f"--onnx={tiny.onnx}", *CHECKS, options=options).result.verdict == "conforms"


def test_categories_of_the_card_are_those_of_the_data(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    """Official order, but ids 1 to 80: what those who forget COCO's gaps write."""
    assert max(COCO_CATEGORY_IDS) == 90
    card = card_with(tiny, tmp_path, "batch_sizes", f"category_ids = {list(range(1, 81))}\nbatch_sizes")
    ended = suite.run("--device=right", f"--model={card}", "--batch-sizes=1", *CHECKS)
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "categories that the data set has not: 12, 26, 29, 30, 45, ..." in ended.output
