"""Devices of an imagined vendor: ONNX Runtime with one mistake each.

This file is copied out of the tree, beside the cards of its devices, and found there as a vendor's package would be.
"""

import json
import os
import time
import unittest
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from harness.cards import load_device_card
from harness.devices.artifact import Artifact, Exported, TensorSpec
from harness.errors import HarnessError

Arrays = dict[str, NDArray[Any]]
HERE = Path(__file__).parent


def specs(tensors: Iterable[Any]) -> tuple[TensorSpec, ...]:
    """Tensors of a session; a dimension with a name is a dynamic one."""
    shapes = [(one.name, [side if isinstance(side, int) else None for side in one.shape]) for one in tensors]
    return tuple(TensorSpec(name, tuple(shape), "float32") for name, shape in shapes)


class Right:
    """Makes no mistake."""

    def __init__(self) -> None:
        self.card = load_device_card(HERE / f"{type(self).__name__.lower()}.toml")

    def check(self) -> None:
        """It is there."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Open a session."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])
        executed = {"provider": "CPUExecutionProvider", "precision": precision}
        inputs, outputs = specs(session.get_inputs()), specs(session.get_outputs())
        return Artifact(session, inputs, outputs, inputs[0].shape[0], executed)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Arrays:
        """Run one batch, then make the mistake."""
        session: Any = artifact.payload
        found = session.run(None, {artifact.inputs[0].name: images})
        return self.spoil({spec.name: values for spec, values in zip(artifact.outputs, found, strict=True)}, images)

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        """The mistake of this device."""
        return outputs


class Swapped(Right):
    """Width and height are exchanged."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        return {**outputs, "wh": outputs["wh"][:, ::-1].copy()}


class Permuted(Right):
    """The samples of a batch come back in another order."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        return {name: output[::-1].copy() for name, output in outputs.items()}


class Stale(Right):
    """The last sample of a batch is that of the batch before."""

    before: Arrays | None = None

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        if len(images) == 1:
            return outputs
        fresh = {name: output[-1].copy() for name, output in outputs.items()}
        for name, last in (self.before or {}).items():
            outputs[name][-1] = last
        self.before = fresh
        return outputs


class NaN(Right):
    """One value of one sample is not a number."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        outputs["hm"][-1, 7, 3, 5] = np.nan
        return outputs


class Transposed(Right):
    """The heads come back as NHWC."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        return {name: np.ascontiguousarray(output.transpose(0, 2, 3, 1)) for name, output in outputs.items()}


class Fewer(Right):
    """One output does not come back."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        del outputs["reg"]
        return outputs


class Slight(Right):
    """One value of one channel of the third sample is a little off."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        if len(images) > 2:
            outputs["reg"][2, 1, 9, 4] += 0.002
        return outputs


def places_unseen(images: NDArray[np.generic]) -> list[int]:
    """Places in a batch of the images that are named in ``unseen.json``."""
    unseen = json.loads((HERE / "unseen.json").read_text())
    return [place for place, image in enumerate(images) if zlib.crc32(image.tobytes()) in unseen]


class Selective(Right):
    """Finds nothing in some images (``unseen.json``: the CRC-32 of each), and is right about all others."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        for place in places_unseen(images):
            outputs["hm"][place] = -20
        return outputs


class Larger(Right):
    """Makes boxes 2 % too large in some images (those of `Selective`), and is right about all others."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        for place in places_unseen(images):
            outputs["wh"][place] *= np.float32(1.02)
        return outputs


class Crashing(Right):
    """The driver gives up."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        raise RuntimeError("the driver has lost the device")


class Leaving(Right):
    """Ends its process, with the status of success."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        os._exit(0)


class Skipping(Right):
    """Skips the test that uses it."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        import pytest

        pytest.skip("the chip is busy")


class Xfailing(Right):
    """Says of the test that uses it that it fails as expected."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        import pytest

        pytest.xfail("known to the vendor")


class Unittesting(Right):
    """Skips as tests of unittest do."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        raise unittest.SkipTest("the chip is busy")


class Quitting(Right):
    """Ends the run of pytest, with the status of success."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        import pytest

        pytest.exit("all is well", returncode=0)


class Absent(Right):
    """Is not on this machine."""

    def check(self) -> None:
        raise HarnessError("no chip answers on the bus", field="--device absent", remedy="seat the card and try again")


class Unconvertible(Right):
    """Its toolchain refuses every model."""

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        raise HarnessError("the compiler knows no ConvTranspose", file=exported.path, remedy="wait for version 2")


class Endless(Right):
    """Never comes back, once the file that ``ENDLESS_RUNNING`` names says that it has started."""

    def spoil(self, outputs: Arrays, images: NDArray[np.generic]) -> Arrays:
        Path(os.environ["ENDLESS_RUNNING"]).touch()
        time.sleep(600)
        return outputs


class HalfOnly(Right):
    """Knows no fp32."""


class Excused(Swapped):
    """Its mistake is known, stage by stage."""


class Elsewhere(Swapped):
    """Its mistake is expected in another stage."""


class Late(Unconvertible):
    """Its heads are expected to deviate, and it never comes to heads."""


class Refused(Unconvertible):
    """Its toolchain is expected to refuse the model in the test of heads."""


class Cured(Right):
    """Is expected to fail, and passes."""


class Stray(Right):
    """Has an entry that speaks of no test."""


class Expired(Swapped):
    """Its mistake was known until a day that is over."""
