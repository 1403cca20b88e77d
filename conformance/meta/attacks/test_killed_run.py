"""A run that is killed goes on where it was, with the same document.

At most two batches have come from a device and are not stored: the one that is decoded while the device is at work, and
the one that has just come.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conformance.support.suite import CHECKS, ROOT, Suite, read_results
from conformance.support.tiny import TinySetup
from harness.report.records import Document

pytestmark = pytest.mark.attacks
MOMENTS = 4
"""Kills in each run of these tests."""
COUNTING = """
import os
from harness.run import detected, pipeline

detect, run_batch, depth = detected.detect, pipeline.run_batch, []


def counted_detect(*given, **named):
    depth.append(1)
    try:
        return detect(*given, **named)
    finally:
        depth.pop()


def counted_run(device, artifact, batch):
    outputs = run_batch(device, artifact, batch)
    if depth:
        line = f"{device.card.name} {len(batch.images)} {batch.image_ids}\\n".encode()
        file = os.open(os.environ["COUNT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line)
        os.close(file)
    return outputs


detected.detect, pipeline.run_batch = counted_detect, counted_run
"""
"""Plug-in that notes each batch which a run over all images has got from a device."""


class Killed:
    """Runs over the tiny setup with a store of their own, which may be killed.

    Args:
        suite: Says how they are started.
        folder: Of their store and the note of their batches.
    """

    def __init__(self, suite: Suite, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.results = folder, folder / "results.json"
        (folder / "counting.py").write_text(COUNTING)
        self.command = [
            sys.executable, "-m", "pytest", *suite.options, "-p", "counting", *CHECKS, f"--results={self.results}",
        ]  # fmt: skip
        paths = os.pathsep.join([str(suite.tiny.vendor), str(folder)])
        own = {"PYTHONPATH": paths, "CENTERNET_CONFORMANCE_CACHE": str(folder / "cache")}
        (folder / "tmp").mkdir()
        self.environment = {**suite.environment, **own, "COUNT": str(folder / "count"), "TMPDIR": str(folder / "tmp")}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def finish(self, *arguments: str) -> Document:
        assert self.start(*arguments).wait() == 0
        document = read_results(self.results)
        assert document is not None
        return document

    def kill_after(self, batches: int) -> bool:
        """Kill a run once it has noted so many batches; tell whether it was still under way."""
        process = self.start()
        while process.poll() is None:
            if len(self.noted) >= batches:
                os.killpg(process.pid, signal.SIGKILL)
                break
        return process.wait() == -signal.SIGKILL

    @property
    def temporary(self) -> list[str]:
        """Names of what is left of its temporary files; libraries leave some of their own."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())

    @property
    def noted(self) -> list[str]:
        file = self.folder / "count"
        return file.read_text().splitlines() if file.exists() else []


def told(document: Document) -> str:
    """All of a document but for times, speeds, and what of it is a store's."""
    runs = [
        run.model_copy(
            update={
                "perf": (),
                "accuracy": tuple(
                    a.model_copy(update={"stored": None, "reference_stored": None}) for a in run.accuracy
                ),
            }
        )
        for run in document.runs
    ]
    return document.model_copy(update={"runs": tuple(runs)}).model_dump_json()


def test_killed_run_goes_on_where_it_was(suite: Suite, tiny: TinySetup, tmp_path: Path) -> None:
    del tiny
    undisturbed = Killed(suite, tmp_path / "undisturbed")
    expected, batches = told(undisturbed.finish()), undisturbed.noted
    draw = random.Random(20261127)
    for number in range(MOMENTS):
        killed, after = Killed(suite, tmp_path / f"killed{number}"), draw.randrange(1, len(batches))
        assert killed.kill_after(after)
        seen = len(killed.noted)
        document = killed.finish()
        assert told(document) == expected
        again = Counter(killed.noted) - Counter(batches)
        assert sum(again.values()) <= 2, f"killed after {seen} of {len(batches)} batches, run again: {dict(again)}"
        assert killed.temporary == undisturbed.temporary
        assert [path.name for path in (killed.folder / "cache").rglob("*.partial")] == []


def test_run_without_a_device_leaves_nothing_to_go_on_with(suite: Suite, tmp_path: Path) -> None:
    one = Killed(suite, tmp_path / "one")
    one.command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "conformance/harness/test_paths.py"]
    assert one.start().wait() == 0
    assert [file.name for file in (one.folder / "cache").rglob("runs/*")] == []


def test_same_run_again_runs_the_device_again_unless_it_is_told_to_reuse(suite: Suite, tmp_path: Path) -> None:
    one = Killed(suite, tmp_path / "one")
    first = one.finish()
    batches = Counter(one.noted)
    for arguments, expected in (((), "onnxruntime"), (("--reuse",), ""), (("--fresh",), None)):
        (one.folder / "count").unlink(missing_ok=True)
        again = one.finish(*arguments)
        assert told(again) == told(first)
        ran = Counter(one.noted)
        if expected is None:
            assert ran == batches
            assert again.runs[0].accuracy[0].reference_stored is None
        else:
            assert ran == Counter({line: n for line, n in batches.items() if expected and line.startswith(expected)})
            stored = again.runs[0].accuracy[0].reference_stored
            assert stored is not None
            assert stored.images == 11
        assert bool(again.runs[0].perf) == bool(ran)
