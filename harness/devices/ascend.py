"""Devices of Ascend: the chips, through CANN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from harness.cache import cached_folder, content_key
from harness.cards import load_device_card
from harness.cards.device import CARDS
from harness.centernet.networks.weights import file_sha256
from harness.convert.ascend.atc import AtcRequest, compile_om, find_atc, out_nodes
from harness.convert.ascend.npu_smi import Npu, find_npus
from harness.devices.artifact import Artifact, Exported, require_batch_size
from harness.devices.ascend_runtimes import Runtime, find_runtime
from harness.devices.base import require_request
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.types import Outputs

OM = "model"
FORM = 1
"""Counts up when what is kept of a conversion, or how it is made, changes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An om at work.

    Attributes:
        runtime: Holds it.
        places: Of each output of the ONNX, its place among the om's.
    """

    runtime: Runtime
    places: tuple[int, ...]


class AscendDevice:
    """A chip through atc and whatever runtime the host has."""

    file: str
    """Name of the device card."""

    def __init__(self) -> None:
        self.card = load_device_card(CARDS / self.file)
        assert self.card.ascend is not None
        self.socs = self.card.ascend.socs

    def check(self) -> None:
        """Raise HarnessError with all that this host lacks: compiler, runtime, chip."""
        missing = []
        looks: Sequence[Callable[[], object]] = (find_atc, find_runtime, self.npu)
        for look in looks:
            try:
                look()
            except HarnessError as error:
                missing.append(error)
        if missing:
            name = self.card.name
            remedies = dict.fromkeys(error.remedy for error in missing if error.remedy)
            raise HarnessError(
                f"device '{name}' cannot run here:" + "".join(f"\n  {error.cause}" for error in missing),
                field="--device",
                remedy=f"{'; '.join(remedies)}. Without the chip: --device {name}:emulated, or run it elsewhere "
                f"('python -m harness convert --device {name}') and give what comes back with --outputs",
            )

    def npu(self) -> Npu:
        """The first healthy chip of this kind.

        Raises:
            HarnessError: There is none, or the driver does not say which of its family it is.
        """
        found = find_npus()
        fitting = [npu for npu in found if npu.soc in self.socs]
        if not fitting:
            shown = ", ".join(npu.name for npu in found)
            raise HarnessError(f"npu-smi shows {shown}, and no {' or '.join(self.socs)}", remedy="choose its device")
        healthy = [npu for npu in fitting if npu.health.upper() in ("OK", "WARNING")]
        if not healthy:
            raise HarnessError(
                f"npu-smi says {fitting[0].health} of {fitting[0].name}", remedy="look at 'npu-smi info -t health'"
            )
        return healthy[0]

    def convert(self, exported: Exported, batch_size: int, precision: str) -> Artifact:
        """Compile the exported model for the chip of this host and load it; what was compiled comes from the cache.

        Raises:
            HarnessError: atc is not there or fails, or the runtime does not take its om.
        """
        require_request(self.card, exported, precision)
        require_batch_size(None, batch_size)
        assert exported.path is not None  # the dialect is a file's
        npu, atc = self.npu(), find_atc()
        model = load_onnx_checked(exported.path)
        om = _compiled(exported.path, atc, npu.soc, batch_size)
        stated = stated_by(model)
        specs = [replace(spec, shape=(batch_size, *spec.shape[1:])) for spec in (*stated.inputs, *stated.outputs)]
        inputs, outputs = tuple(specs[: len(stated.inputs)]), tuple(specs[len(stated.inputs) :])
        runtime = find_runtime()(om, npu.device, outputs)
        places = output_places(out_nodes(model), getattr(runtime, "output_names", ()))
        executed = {
            "chip": npu.soc,
            "precision": f"{precision}, by atc's default",
            "runtime": runtime.name,
            "atc": str(atc),
            "om": f"sha256 {file_sha256(om)[:12]}",
        }
        return Artifact(Loaded(runtime, places), inputs, outputs, batch_size, executed)

    def run(self, artifact: Artifact, images: NDArray[np.generic]) -> Outputs:
        """Run one batch, host arrays in, host arrays out."""
        loaded = cast(Loaded, artifact.payload)
        found = loaded.runtime.run(images)
        names = [spec.name for spec in artifact.outputs]
        return {name: found[place] for name, place in zip(names, loaded.places, strict=True) if place < len(found)}


def output_places(nodes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Where in an om each output of the ONNX is.

    The order of ``--out_nodes`` is what every recipe relies on, and no document promises. Where the om names its
    outputs, the names hold those of the nodes, and decide.

    Args:
        nodes: As ``--out_nodes`` had them.
        names: Of the om's outputs, in its order; none where the runtime does not tell.
    """
    found = [[place for place, name in enumerate(names) if node in name] for node in nodes]
    if all(len(places) == 1 for places in found) and len({places[0] for places in found}) == len(nodes):
        return tuple(places[0] for places in found)
    return tuple(range(len(nodes)))


def _compiled(onnx: Path, atc: Path, soc: str, batch_size: int) -> Path:
    parts: dict[str, object] = {
        "onnx": file_sha256(onnx),
        "soc": soc,
        "batch_size": batch_size,
        "atc": [str(atc.resolve()), atc.stat().st_mtime_ns],
        "form": FORM,
    }
    folder = cached_folder(
        "om",
        content_key(parts),
        lambda partial: _compile(AtcRequest(onnx.absolute(), (partial / OM).absolute(), soc, batch_size), partial),
    )
    return folder / f"{OM}.om"


def _compile(order: AtcRequest, folder: Path) -> None:
    compile_om(order, folder)


class Ascend310(AscendDevice):
    """Device `ascend310`."""

    file = "ascend310.toml"


class Ascend310B(AscendDevice):
    """Device `ascend310b`."""

    file = "ascend310b.toml"


class Ascend310P(AscendDevice):
    """Device `ascend310p`."""

    file = "ascend310p.toml"
