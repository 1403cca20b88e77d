"""The vendor's bit-accurate simulator of a chip, with a cache of its outputs."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cache import cached_folder, content_key, locked
from harness.convert.process import run_tool
from harness.convert.tpu_mlir.environment import Environment
from harness.files import file_sha256
from harness.files.temporary import TemporaryFolder
from harness.types import Outputs

HEADS = "outputs.npz"


def simulate(environment: Environment, bmodel: Path, name: str, images: NDArray[np.generic], what: str) -> Outputs:
    """Simulate a bmodel and return its outputs by its own names.

    An image takes a minute, and the simulator is deterministic. The outputs are therefore cached by the content of
    bmodel and images: an interrupted run continues from there, at the price of some megabytes an image.

    Args:
        environment: The environment with the simulator.
        bmodel: The model.
        name: Name of its input.
        images: One batch.
        what: Description of the step, for messages.

    Raises:
        HarnessError: The simulator fails, or the cache cannot be written.
    """
    digest = content_key({"shape": list(images.shape), "dtype": str(images.dtype), "hash": _digest(images)})
    key = content_key({"bmodel": file_sha256(bmodel), "images": digest})

    def run(folder: Path) -> None:
        with TemporaryFolder(folder.parent) as scratch:
            work = Path(scratch)
            arrays: dict[str, Any] = {name: images}
            np.savez(work / "in.npz", **arrays)
            command: list[str | Path] = [
                environment.tool("model_runner"),
                "--input",
                "in.npz",
                "--model",
                bmodel.absolute(),
            ]
            # The simulator changes a link in its own package to the simulated chip: only one may run at a time.
            with locked(environment.root / "simulator"):
                run_tool([*command, "--output", HEADS], work, environment.variables(), what, bmodel)
            (work / HEADS).replace(folder / HEADS)

    folder = cached_folder("simulated", key, run)
    with (folder / HEADS).open("rb") as file, np.load(file) as saved:
        return {output: saved[output] for output in saved.files}


def _digest(images: NDArray[np.generic]) -> str:
    return sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
