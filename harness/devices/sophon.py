"""Devices of Sophon: the chips through `sophon.sail`, and the vendor's simulator of each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.convert.tpu_mlir.bmodel import Stated, StatedTensor, read_bmodel
from harness.convert.tpu_mlir.compile import Conversion, TpuMlirRequest, convert
from harness.convert.tpu_mlir.environment import VERSION, find_environment
from harness.convert.tpu_mlir.profile import ddr_floor_ms
from harness.convert.tpu_mlir.simulate import simulate
from harness.devices.artifact import Artifact, Estimate, Exported, TensorSpec, require_batch_size
from harness.devices.base import require_request
from harness.errors import HarnessError
from harness.types import Outputs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bmodel, and how its tensors are called by those who use it.

    Attributes:
        bmodel: The file.
        input: The bmodel's name of its input.
        outputs: Of each output of the ONNX, the bmodel's name.
        engine: The runtime's handle; None for the simulator.
    """

    bmodel: Path
    input: str
    outputs: Mapping[str, str]
    engine: object = None


class SophonDevice:
    """What chip and simulator share: the conversion by tpu_mlir, and the contract of its bmodel."""

    file: str
    """Name of the device card."""

    def __init__(self) -> None:
        self.card = load_device_card(CARDS / self.file)
        assert self.card.tpu_mlir is not None
        self.chip = self.card.tpu_mlir.chip

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
        """What tpu_mlir is asked for.

        Raises:
            HarnessError: The device does not take the dialect, the precision or the batch size.
        """
        require_request(self.card, exported, precision)
        require_batch_size(None, batch_size)
        assert exported.path is not None  # the dialect is a file's
        assert self.card.tpu_mlir is not None
        chip_float = self.card.tpu_mlir.float_mode
        card, calibration = exported.card, exported.calibration
        return TpuMlirRequest(
            exported.path,
            card.output.names,
            self.chip,
            precision,
            chip_float,
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
        host = record.host_operators
        return Artifact(
            Loaded(bmodel, given.name, {name: bmodel_name for bmodel_name, name in names.items()}),
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
            host,
            None if record.latency_ms is None else Estimate(record.latency_ms, floor, record.estimate_note),
            record.losses,
        )


def own_name(base: str, names: Sequence[str], file: Path) -> str:
    """What a converted model calls an output; where it casts it, the name says to what.

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
    """How often each operator is among them, in words."""
    kinds = sorted(set(operators))
    return ", ".join(f"{operators.count(kind)} x {kind}" for kind in kinds) or "none"


class SimulatedSophon(SophonDevice):
    """The vendor's bit-accurate simulator of a chip; it says nothing about speed."""

    def check(self) -> None:
        """Raise HarnessError, with the command that installs it, where tpu_mlir is not there."""
        find_environment()

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Simulate one batch: seconds to minutes, or nothing where the same was simulated before."""
        loaded = cast(Loaded, artifact.payload)
        what = f"{self.card.name}, {artifact.executed['precision']}: simulating a batch of {len(images)}"
        found = simulate(find_environment(), loaded.bmodel, loaded.input, images, what)
        return by_name(artifact, loaded.outputs, found)


class SophonChip(SophonDevice):
    """A chip through `sophon.sail`, on the first TPU of the host."""

    def check(self) -> None:
        """Raise HarnessError where there is no `sophon.sail` or no chip."""
        simulated = f"run on a host with the chip and its SDK, or choose --device {self.card.name}:simulated"
        try:
            sail = _sail()
        except ImportError as error:
            raise HarnessError(
                f"device '{self.card.name}' needs Sophon's runtime, and sophon.sail cannot be imported: {error}",
                remedy=simulated,
            ) from error
        count = int(sail.get_available_tpu_num())
        if count < 1:
            raise HarnessError(f"device '{self.card.name}': sophon.sail finds no TPU on this host", remedy=simulated)

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Compile the exported model and load it into the chip."""
        artifact = super().convert(exported, batch_size, precision)
        loaded = cast(Loaded, artifact.payload)
        sail = _sail()
        engine = sail.Engine(str(loaded.bmodel), 0, sail.IOMode.SYSIO)
        return replace(artifact, payload=Loaded(loaded.bmodel, loaded.input, loaded.outputs, engine))

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, host arrays in, host arrays out."""
        loaded = cast(Loaded, artifact.payload)
        engine: Any = loaded.engine
        (network,) = engine.get_graph_names()
        # sail makes an array that is not contiguous so in place, in the caller's own memory.
        found = engine.process(network, {loaded.input: np.ascontiguousarray(images)})
        # A copy: the buffers are the engine's own.
        return by_name(artifact, loaded.outputs, {name: np.array(output) for name, output in found.items()})


def by_name(artifact: Artifact, names: Mapping[str, str], found: Outputs) -> Outputs:
    """Outputs by the model's names, in its order; one that did not come is left out, and the device deviates.

    Args:
        artifact: Says the order.
        names: Of each output, what the toolchain calls it.
        found: By the toolchain's names, in any order.
    """
    order = [spec.name for spec in artifact.outputs]
    return {name: found[names[name]] for name in order if names[name] in found}


def _sail() -> Any:  # noqa: ANN401 - the vendor's module has no types
    return importlib.import_module("sophon.sail")


class BM1684Simulated(SimulatedSophon):
    """Device `bm1684:simulated`."""

    file = "bm1684-simulated.toml"


class BM1684XSimulated(SimulatedSophon):
    """Device `bm1684x:simulated`."""

    file = "bm1684x-simulated.toml"


class BM1684(SophonChip):
    """Device `bm1684`."""

    file = "bm1684.toml"


class BM1684X(SophonChip):
    """Device `bm1684x`."""

    file = "bm1684x.toml"
