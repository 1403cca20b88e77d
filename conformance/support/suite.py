"""Runs the suite and the verb `check` as a user does."""

import json
import os
import pickle
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from conformance.support.tiny import TinySetup
from conformance.support.vendor import KNOWN
from harness.convert.guarded import Guarded
from harness.files.temporary import TemporaryFolder
from harness.report.records import Document, Run, Stage

ROOT = Path(__file__).resolve().parent.parent.parent
CHECKS = tuple(f"conformance/device/test_{name}.py" for name in ("accuracy", "conversion", "heads"))
"""The files with the tests of devices, without speed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over.

    Attributes:
        status: Its exit status.
        output: All that it printed.
        document: Its results document, None where it left none.
    """

    status: int
    output: str
    document: Document | None

    @property
    def result(self) -> Document:
        """The document, which is there."""
        assert self.document is not None, self.output
        return self.document

    def run_of(self, device: str) -> Run:
        """The run of a device in the document."""
        return next(run for run in self.result.runs if run.device == device)

    def stage(self, device: str, name: str, batch_size: int) -> Stage:
        """One stage of a device."""
        [stage] = [s for s in self.run_of(device).stages if (s.name, s.batch_size) == (name, batch_size)]
        return stage

    def outcomes(self, device: str, batch_size: int) -> dict[str, str]:
        """Outcome of every stage of a device at one batch size."""
        return {s.name: s.outcome for s in self.run_of(device).stages if s.batch_size == batch_size}


class Suite:
    """Starts runs of the suite over the tiny setup.

    Args:
        tiny: The model, the data and the devices.
    """

    def __init__(self, tiny: TinySetup) -> None:
        self.tiny = tiny
        self._folder = TemporaryFolder()
        command, pipe = [sys.executable, str(Path(__file__).with_name("forker.py"))], subprocess.PIPE
        self._forker = Guarded(command, ROOT, self.environment, stdin=pipe, stdout=pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._forker.end()
        self._forker.process.communicate()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a shell, without that of the pytest that runs this test."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))}
        own = {"PYTHONPATH": str(self.tiny.vendor), "OMP_NUM_THREADS": "1"}
        return {**kept, **own, "CENTERNET_CONFORMANCE_CACHE": str(self.tiny.root / "cache")}

    @property
    def options(self) -> tuple[str, ...]:
        """Model and data of the tiny setup, without an export in every run."""
        tiny = self.tiny
        given = {"--model": tiny.card, "--weights": tiny.weights, "--onnx": tiny.onnx, "--coco": tiny.coco}
        return ("-p", "no:cacheprovider", *(f"{name}={path}" for name, path in given.items()))

    @property
    def known(self) -> str:
        """The option that puts the known failures of the vendor's devices in force."""
        return f"--expectations={self.tiny.vendor / KNOWN}"

    def check(self, *arguments: str) -> Ended:
        """``python -m harness check`` on the model and the data of the tiny setup."""
        return self.run(*arguments, options=("check", *self.options[2:]), module="harness")

    def run(
        self,
        *arguments: str,
        results: Path | None = None,
        options: Sequence[str] | None = None,
        module: str = "pytest",
        plugin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """``pytest`` with `options` (those of the tiny setup) and `arguments`, of which the last of a name counts.

        Args:
            arguments: As on the command line.
            results: Place of the results document.
            options: In place of those of the tiny setup.
            module: The module that is run.
            plugin: Source of a plug-in of the user's.
            environment: Further variables.
        """
        folder = Path(self._folder.name)
        if plugin is not None:
            name = f"of_the_user_{zlib.crc32(plugin.encode())}"
            (folder / f"{name}.py").write_text(plugin, encoding="utf-8")
            arguments = (*arguments, "-p", name)
        if results is None:
            results = folder / "results.json"
            results.unlink(missing_ok=True)
        request: dict[str, Any] = {
            "module": module,
            "arguments": [*(self.options if options is None else options), f"--results={results}", *arguments],
            "environment": {**self.environment, **(environment or {})},
            "path": [str(self.tiny.vendor), str(folder)],
            "output": str(folder / "output"),
            "bytecode": str(self.tiny.root / "bytecode"),
        }
        (folder / "output").write_text("")
        forker = self._forker.process
        assert forker.stdin is not None
        assert forker.stdout is not None
        forker.stdin.write(f"{json.dumps(request)}\n".encode())
        forker.stdin.flush()
        status = int(forker.stdout.readline())
        if status < 0:
            raise RuntimeError(f"the run was ended by signal {-status}")
        return Ended(status, (folder / "output").read_text(), read_results(results))

    def run_once(self, name: str, *arguments: str, options: Sequence[str] | None = None) -> Ended:
        """`run`, but once for all processes of these tests; `name` stands for what is run."""
        file = self.tiny.root / f"{name}.pickle"
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                file.write_bytes(pickle.dumps(self.run(*arguments, options=options)))
            ended: Ended = pickle.loads(file.read_bytes())
        return ended


def read_results(file: Path) -> Document | None:
    """A results document, held to its schema; None where there is none."""
    return Document.model_validate_json(file.read_bytes()) if file.is_file() else None
