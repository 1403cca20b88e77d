"""The generated data set on disk: COCO's layout, complete or absent, written once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from harness.data.synthetic import Spec, draw_image, load_spec, materialise
from harness.data.synthetic.coco import ContentHash, image_entry, instances
from harness.errors import HarnessError

SPEC = load_spec()


def of_three(sha256: str | None = None) -> Spec:
    """Reduce the validation split of the specification to three images."""
    content = ContentHash()
    images = [draw_image(SPEC, "val", index) for index in range(3)]
    for drawn in images:
        content.add_image(drawn.image)
    annotations = [found for drawn in images for found in drawn.annotations]
    found = content.finish(instances(SPEC, map(image_entry, images), annotations))
    part = SPEC.part("val").model_copy(update={"images": 3, "sha256": sha256 or found})
    return SPEC.model_copy(update={"split": {"val": part}})


def test_folder_is_read_by_pycocotools_and_holds_the_drawn_pixels(tmp_path: Path) -> None:
    spec = of_three()
    folder = materialise(spec, "val", tmp_path)
    assert folder.name == f"embedded-val-{spec.part('val').sha256[:12]}"
    coco = COCO(folder / "annotations" / "instances_val2017.json")
    assert len(coco.getImgIds()) == 3
    for index in range(3):
        drawn = draw_image(spec, "val", index)
        entry = coco.loadImgs(drawn.image_id)[0]
        read = cv2.imread(str(folder / "val2017" / entry["file_name"]))
        assert read is not None
        np.testing.assert_array_equal(read, drawn.image)
        assert (entry["height"], entry["width"]) == drawn.image.shape[:2]
        assert coco.loadAnns(coco.getAnnIds(drawn.image_id)) == drawn.annotations


def test_limited_folder_has_its_own_name_and_is_written_once(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        folder = materialise(SPEC, "train", tmp_path, limit=2, progress=lambda done, total: told.append((done, total)))
    assert folder.name.endswith("-first2")
    assert len(list((folder / "train2017").iterdir())) == 2
    assert told == [(1, 2), (2, 2)]


def test_emptied_folder_of_the_cache_is_made_anew_and_that_of_a_user_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = materialise(SPEC, "val", tmp_path, limit=2)
    images = sorted((folder / "val2017").iterdir())
    images[1].unlink()
    assert materialise(SPEC, "val", tmp_path, limit=2) == folder
    assert not images[1].exists()
    monkeypatch.setenv("CENTERNET_CONFORMANCE_CACHE", str(tmp_path))
    assert materialise(SPEC, "val", tmp_path, limit=2) == folder
    assert images[1].exists()
    (folder / "annotations" / "instances_val2017.json").unlink()
    materialise(SPEC, "val", tmp_path, limit=2)
    assert (folder / "annotations" / "instances_val2017.json").is_file()


def test_images_that_are_not_the_stated_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="expected 0000") as caught:
        materialise(of_three("0" * 64), "val", tmp_path)
    assert caught.value.field == "split.val.sha256"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_full_disk_is_an_error_that_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(HarnessError, match="No space left") as caught:
        materialise(SPEC, "val", tmp_path, limit=1)
    assert caught.value.file is not None
    assert Path(caught.value.file).parent == tmp_path
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_cache_that_cannot_be_made_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match="CENTERNET_CONFORMANCE_CACHE"):
        materialise(SPEC, "val", tmp_path / "file" / "cache", limit=1)


KILLED = """
import os, pathlib, signal, sys
from harness.data.synthetic import load_spec, materialise
materialise(load_spec(), "val", pathlib.Path(sys.argv[1]), limit=3,
            progress=lambda done, total: done == 2 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed_process_leaves_no_half_made_folder(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert left, "the process was killed while it wrote"
    assert all(name.startswith(".") for name in left)
    folder = materialise(SPEC, "val", tmp_path, limit=3)
    assert len(list((folder / "val2017").iterdir())) == 3
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


TOGETHER = """
import pathlib, sys
from harness.data.synthetic import load_spec, materialise
sys.stdin.readline()
told = []
materialise(load_spec(), "val", pathlib.Path(sys.argv[1]), limit=4, progress=lambda done, total: told.append(done))
print(len(told))
"""


def test_two_processes_write_the_folder_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    drawn = sorted(int(worker.communicate()[0]) for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert drawn == [0, 4]
    document = json.loads(next(tmp_path.glob("*/annotations/*.json")).read_text())
    assert len(document["images"]) == 4
