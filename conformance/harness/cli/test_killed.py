"""``kill -9`` in the middle of a verb: nothing half-written has a final name, and the next run removes what is left."""

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.support.command_line import run
from conformance.support.small_training import six_images
from conformance.support.tiny import CARD
from harness.centernet.networks import create_model
from harness.paths import data_path
from harness.training.checkpoint import save_weights

pytestmark = pytest.mark.attacks

PARTIAL = re.compile(r"\.partial(/|$)|\.lock$")
KILLED = """
import os, signal, sys
from pathlib import Path
replace, (final, *arguments) = Path.replace, sys.argv[1:]
def kill_at_the_end(self, target):
    if str(target).startswith(final):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = kill_at_the_end
sys.argv = ["harness", *arguments]
from harness.cli import main
main()
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Card, weights and data of a small network."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "tiny.toml").write_text(CARD)
    save_weights(create_model("res_18", width=0.0625).state_dict(), folder / "weights.pth")
    coco = six_images(folder).folder.parent
    (coco / "val2017").symlink_to(coco / "train2017")
    (coco / "annotations" / "instances_val2017.json").symlink_to(coco / "annotations" / "instances_train2017.json")
    return {"--model": folder / "tiny.toml", "--weights": folder / "weights.pth", "--coco": coco}


def of(*names: str) -> Callable[[dict[str, Path]], list[object]]:
    return lambda given: [part for name in names for part in (name, given[name])]


@pytest.mark.parametrize(
    ("verb", "options", "further", "final"),
    [
        ("export", of("--model", "--weights"), ["--batch-size", "1"], "e.onnx"),
        ("convert", of("--model", "--weights"), ["--device", "ascend310p"], "carry"),
        ("infer", of("--model", "--weights", "--coco"), ["--device", "torch"], "heads"),
        ("preprocess", of("--model", "--coco"), [], "inputs"),
        ("dataset", of(), ["--limit", "3"], "data"),
        ("train", of("--model", "--coco"), ["--iterations", "2", "--batch-size", "2", "--crop", "64"], "run"),
    ],
)
def test_killed_verb_leaves_no_half_and_the_next_removes_what_is_left(
    given: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    options: Callable[[dict[str, Path]], list[object]],
    further: list[str],
    final: str,
) -> None:
    temporary, place = tmp_path / "tmp", tmp_path / "place"
    temporary.mkdir()
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    arguments = [verb, *map(str, options(given)), *further, "--output", str(place / final)]
    command = [sys.executable, "-c", KILLED, str(place / final), *arguments]
    killed = subprocess.run(command, cwd=data_path(), capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    left = [path.relative_to(place) for path in place.rglob("*")]
    assert left
    assert all(
        path == Path(final) or any(".partial" in part or ".lock" in part for part in path.parts) for path in left
    )
    assert not (place / final).is_file()
    status, _, err = run(*arguments)
    assert status == 0, err
    assert (place / final).exists()
    assert [path for path in place.rglob("*") if path.name.endswith((".partial", ".lock"))] == []
    assert list(temporary.glob("centernet-conformance-*")) == []
