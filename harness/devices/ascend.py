"""Devices of Ascend: the chips, through CANN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.cache import cached_folder, content_key
from harness.cards import load_device_card
from harness.cards.device import card_file
from harness.convert.ascend.atc import AtcRequest, compile_om, find_atc, out_nodes
from harness.convert.ascend.chip import AscendChip
from harness.convert.ascend.npu_smi import Npu, find_npus
from harness.devices.artifact import Artifact, Exported, TensorSpec, require_batch_size
from harness.devices.ascend_runtimes import Runtime, call_failed, explained_failure, find_runtime, require_input
from harness.devices.base import RunnerDevice, require_request
from harness.devices.link import InProcess
from harness.errors import HarnessError
from harness.export.load import load_onnx_checked, stated_by
from harness.files import file_sha256

OM = "model"
FORM = 1
"""Counts up when what is kept of a conversion, or how it is made, changes."""


@dataclass(frozen=True, slots=True)
class LoadedOm:
    """An om in a runtime.

    Attributes:
        om: The file.
        link: To the runner that holds it.
        places: By the name of each output of the ONNX, its place among the om's.
    """

    om: Path
    link: InProcess
    places: Mapping[str, str]

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one batch; an output that the om does not return is left out."""
        size = self.link.facts.get("input_bytes")
        if size is not None:
            require_input(images, size, self.om)
        try:
            found = self.link.run(images)
        except Exception as error:
            status = getattr(error, "status", None)
            if status is None:
                raise
            raise call_failed(error, status, self.om) from error
        return {name: found[place] for name, place in self.places.items() if place in found}

    def time(self, images: NDArray[Any], rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` runs."""
        return self.link.time(images, rounds)


class AscendDevice(RunnerDevice):
    """A chip through atc and whatever runtime the host has.

    Args:
        name: Of the device, which is that of its card.
    """

    def __init__(self, name: str) -> None:
        super().__init__(load_device_card(card_file(name)))
        self.socs = self.card.vendor_table(AscendChip).socs

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

    def load(self, runtime: Runtime, om: Path, device: int, outputs: Sequence[TensorSpec]) -> InProcess:
        """Load an om into a runtime of this process.

        Args:
            runtime: Of this host.
            om: The file.
            device: Number of the chip.
            outputs: Of the model, whose shapes a command line needs.

        Raises:
            HarnessError: The runtime does not take it; codes in its message are explained.
        """
        shapes = [[side or 0 for side in spec.shape[1:]] for spec in outputs]
        try:
            return self.open(runtime.runner, {"om": str(om), "device": device, "shapes": shapes})
        except Exception as error:  # the vendor's errors have no base of their own
            raise explained_failure(error, om) from error

    def npu(self) -> Npu:
        """Find the first healthy chip of this kind.

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
        runtime = find_runtime()
        link = self.load(runtime, om, npu.device, outputs)
        places = output_places(out_nodes(model), link.facts.get("output_names", ()))
        names = {spec.name: str(place) for spec, place in zip(outputs, places, strict=True)}
        executed = {
            "chip": npu.soc,
            "precision": f"{precision}, by atc's default",
            "runtime": runtime.name,
            "atc": str(atc),
            "om": f"sha256 {file_sha256(om)[:12]}",
        }
        return Artifact(LoadedOm(om, link, names), inputs, outputs, batch_size, executed)


def output_places(nodes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the place in an om of each output of the ONNX.

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
