"""Devices of Sophon: the chips through `sophon.sail`, and the vendor's simulator of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from harness.cards import load_device_card
from harness.cards.device import card_file
from harness.convert.tpu_mlir.bmodel import Stated, StatedTensor, read_bmodel
from harness.convert.tpu_mlir.chip import SophonChip as ChipOptions
from harness.convert.tpu_mlir.compile import Conversion, TpuMlirRequest, convert
from harness.convert.tpu_mlir.environment import VERSION, find_environment
from harness.convert.tpu_mlir.profile import ddr_floor_ms
from harness.convert.tpu_mlir.simulate import simulate
from harness.devices.artifact import (
    Artifact,
    CompilerEstimate,
    Exported,
    Findings,
    TensorSpec,
    require_batch_size,
)
from harness.devices.base import RunnerDevice, require_request
from harness.devices.runners import sail as runner
from harness.errors import HarnessError
from harness.types import Outputs


@dataclass(frozen=True, slots=True)
class Bmodel:
    """A bmodel, and its own names of the tensors.

    Attributes:
        file: The file.
        input: The bmodel's name of its input.
        outputs: By the name of each output of the ONNX, the bmodel's name.
    """

    file: Path
    input: str
    outputs: Mapping[str, str]


class SophonDevice:
    """Conversion by tpu_mlir and the contract of its bmodel, which chip and simulator share.

    Args:
        name: Of the device, which is that of its card.
    """

    def __init__(self, name: str) -> None:
        self.card = load_device_card(card_file(name))
        self.options = self.card.vendor_table(ChipOptions)
        self.chip = self.options.chip

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Compile the exported model for the chip; what was compiled before comes from the cache.

        Raises:
            HarnessError: tpu_mlir is not installed or fails, or its bmodel is not what was asked for.
        """
        environment, order = find_environment(), self.order(exported, batch_size, precision)
        bmodel, record = convert(environment, order)
        stated = read_bmodel(environment, bmodel)
        require_chip(stated, self.chip, bmodel)
        return self._artifact(bmodel, stated, record, precision)

    def order(self, exported: Exported, batch_size: int, precision: str, *, lowered: bool = False) -> TpuMlirRequest:
        """Make the request to tpu_mlir.

        Raises:
            HarnessError: The device does not take the dialect, the precision or the batch size.
        """
        require_request(self.card, exported, precision)
        require_batch_size(None, batch_size)
        assert exported.path is not None  # the dialect is a file's
        card, calibration = exported.one_stage, exported.calibration
        return TpuMlirRequest(
            exported.path,
            card.output.names,
            self.chip,
            precision,
            self.options.float_mode,
            calibration,
            lowered,
            card.int8,
        )

    def _artifact(self, bmodel: Path, stated: Stated, record: Conversion, precision: str) -> Artifact:
        stated_names = [output.name for output in stated.outputs]
        names = {own_name(base, stated_names, bmodel): name for name, base in record.outputs.items()}
        outputs = tuple(_spec(output, names[output.name], bmodel) for output in stated.outputs if output.name in names)
        (given,) = stated.inputs
        floor = ddr_floor_ms(record.ddr_bytes, self.chip)
        host, estimate = record.host_operators, None
        if record.latency_ms is not None:
            estimate = CompilerEstimate(record.latency_ms, floor, record.estimate_note)
        return Artifact(
            Bmodel(bmodel, given.name, {name: bmodel_name for bmodel_name, name in names.items()}),
            (_spec(given, record.input, bmodel),),
            outputs,
            given.shape[0],
            {
                "chip": stated.chip,
                "precision": precision,
                "kept in float": f"{len(record.float_operators)} operators" if precision != "fp32" else "all",
                "host operators": counted(host),
                "compiler": f"tpu_mlir {VERSION}",
                "device memory": f"{stated.device_bytes / 2**20:.0f} MiB",
            },
            Findings(host, estimate, record.losses),
        )


def own_name(base: str, names: Sequence[str], file: Path) -> str:
    """Return a converted model's name of an output; where it casts the output, the name ends with the type.

    Raises:
        HarnessError: It has no such output.
    """
    found = [name for name in names if name == base or name.removeprefix(base) in ("_f32", "_f16", "_bf16")]
    if len(found) != 1:
        raise HarnessError(
            f"the model has {'several outputs' if found else 'no output'} {base}; it has {', '.join(names)}",
            file=file,
            remedy="use the tpu_mlir that doctor installs",
        )
    return found[0]


def require_chip(stated: Stated, chip: str, bmodel: Path) -> None:
    """Refuse a bmodel for another chip.

    Raises:
        HarnessError: It is one.
    """
    if stated.chip != chip:
        raise HarnessError(
            f"the bmodel is for {stated.chip}, and the device is {chip}",
            file=bmodel,
            remedy="convert the model for this chip, or choose the device of the other",
        )


def _spec(tensor: StatedTensor, name: str, bmodel: Path) -> TensorSpec:
    if tensor.dtype.startswith("float") and (tensor.scale != 1 or tensor.zero_point != 0):
        raise HarnessError(
            f"tensor '{tensor.name}' is {tensor.dtype} with scale {tensor.scale:g} and zero point "
            f"{tensor.zero_point}, which nobody would apply",
            file=bmodel,
            remedy="convert the model again with float inputs and outputs",
        )
    return TensorSpec(name, tensor.shape, tensor.dtype)


def counted(operators: Sequence[str]) -> str:
    """Return each kind of operator with its count, for messages."""
    kinds = sorted(set(operators))
    return ", ".join(f"{operators.count(kind)} x {kind}" for kind in kinds) or "none"


class SimulatedSophon(SophonDevice):
    """The vendor's bit-accurate simulator of a chip; it says nothing about speed."""

    def check(self) -> None:
        """Raise HarnessError, with the command that installs it, where tpu_mlir is not there."""
        find_environment()

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Simulate one batch: seconds to minutes, or nothing where the same was simulated before."""
        loaded = cast(Bmodel, artifact.payload)
        what = f"{self.card.name}, {artifact.executed['precision']}: simulating a batch of {len(images)}"
        found = simulate(find_environment(), loaded.file, loaded.input, images, what)
        return by_name(artifact, loaded.outputs, found)

    def close(self) -> None:
        """Do nothing: the simulator runs only while it computes a batch."""


class SophonChip(RunnerDevice, SophonDevice):
    """A chip through `sophon.sail`, on the first TPU of the host."""

    def __init__(self, name: str) -> None:
        SophonDevice.__init__(self, name)
        RunnerDevice.__init__(self, self.card)

    def check(self) -> None:
        """Raise HarnessError where there is no `sophon.sail` or no chip."""
        simulated = f"run on a host with the chip and its SDK, or choose --device {self.card.name}:simulated"
        try:
            count = runner.chips()
        except ImportError as error:
            raise HarnessError(
                f"device '{self.card.name}' needs Sophon's runtime, and sophon.sail cannot be imported: {error}",
                remedy=simulated,
            ) from error
        if count < 1:
            raise HarnessError(f"device '{self.card.name}': sophon.sail finds no TPU on this host", remedy=simulated)

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Compile the exported model and load it into the chip."""
        artifact = super().convert(exported, batch_size, precision)
        loaded = cast(Bmodel, artifact.payload)
        order = [spec.name for spec in artifact.outputs]
        outputs = {name: loaded.outputs[name] for name in order}
        spec = {"bmodel": str(loaded.file), "chip": 0, "input": loaded.input, "outputs": outputs}
        return replace(artifact, payload=self.open(runner, spec))


def by_name(artifact: Artifact, names: Mapping[str, str], found: Outputs) -> Outputs:
    """Return outputs by the model's names, in its order; one that did not come is left out, and the device deviates.

    Args:
        artifact: Says the order.
        names: By the name of each output, the toolchain's name.
        found: By the toolchain's names, in any order.
    """
    order = [spec.name for spec in artifact.outputs]
    return {name: found[names[name]] for name in order if names[name] in found}
