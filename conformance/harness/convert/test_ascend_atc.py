"""The driver of atc on its stand-in: success, failure, a hanging tool, and the meaning of codes."""

import os
import time
from pathlib import Path

import onnx
import pytest

from conformance.support.stand_ins import cann as stand_in_cann
from harness.convert.ascend import atc
from harness.devices.artifact import Exported
from harness.errors import HarnessError


def converted(exported: Exported, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    assert exported.path is not None
    return atc.compile_om(atc.AtcRequest(exported.path, folder / "m", "Ascend310P3", 1), folder)


def test_om_counts_and_not_the_word_success(
    host: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stand_in_cann.MISTAKES, "no success word")
    om = converted(exported, tmp_path / "out")
    assert om.is_file()
    monkeypatch.setenv(stand_in_cann.MISTAKES, "success without om")
    os.utime(om, (time.time() - 60, time.time() - 60))
    with pytest.raises(HarnessError, match="it ended with status 0, and the om is as old as before"):
        converted(exported, tmp_path / "out")
    with pytest.raises(HarnessError, match="it ended with status 0, and the om is not there"):
        converted(exported, tmp_path / "other")


def test_compiler_that_fails_without_a_word_is_an_error(
    host: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stand_in_cann.MISTAKES, "silent")
    with pytest.raises(HarnessError, match="ended with status 1; it printed nothing"):
        converted(exported, tmp_path / "out")


def processes() -> list[str]:
    """Command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:  # it has ended
            continue
    return found


def test_compiler_that_hangs_is_killed_with_its_children(
    host: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stand_in_cann.MISTAKES, "hang")
    monkeypatch.setattr(atc, "LIMIT_S", 1.5)
    with pytest.raises(HarnessError, match=r"did not end within 1\.5 s, and was killed"):
        converted(exported, tmp_path / "out")
    for _ in range(50):  # what is killed takes a moment to go
        if not any("child of the stand-in" in line for line in processes()):
            return
        time.sleep(0.1)
    raise AssertionError("what the tool had started is still at work")


@pytest.mark.parametrize(
    ("opsets", "told", "explained"),
    [
        ({"": 17}, "No parser is registered for Op", "EZ9010: the opset is newer than this ATC reads"),
        ({"": 11, "custom": 1}, "only one is allowed", "E16005: the ONNX has two opset domains, and ATC takes one"),
    ],
)
def test_model_that_atc_does_not_read_is_explained(
    host: Path, exported: Exported, tmp_path: Path, opsets: dict[str, int], told: str, explained: str
) -> None:
    model = onnx.load(exported.path)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items())
    onnx.save(model, exported.path)
    with pytest.raises(HarnessError) as caught:
        converted(exported, tmp_path / "out")
    assert told in str(caught.value)
    assert explained in str(caught.value)
    assert "the dialect 'ascend'" in str(caught.value.remedy)
