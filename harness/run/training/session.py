"""Session of the check of a training: model, devices, and what each rung gave, each made once."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from harness.cards import DeviceCard, load_recipe
from harness.cards.training_tolerances import load_training_tolerances
from harness.centernet2.cases import Case, case_model, duplicated_heads, load_case
from harness.centernet2.kinks import RelusDecided
from harness.centernet2.model import CenterNet2, Step, create_centernet2
from harness.centernet2.port import Gradients, TrainingPort
from harness.centernet2.rungs import Rung, Values, fed_proposals, fed_values, moved
from harness.centernet2.weights import load_weights
from harness.checks.training.rungs import LAYERS, Basis, Rounded
from harness.exchange.training_case.fit import require_fit
from harness.exchange.training_case.read import DUPLICATED, IDLE, Dumped, read_dumps
from harness.faults.training import TrainingFault
from harness.files import file_sha256
from harness.report.environment import environment
from harness.report.escape import printable
from harness.report.records import Data, Document
from harness.run.gate import describe_gate
from harness.run.training.options import TrainingOptions
from harness.training.devices import PRECISIONS, TrainingDevice, full_float32, require_precision, training_device

RECIPE = "centernet2_1x"
CASES = ("base", "other_sizes", "beyond_80", "many", "equal_sizes")
"""Batches on which every known mistake of a step shows in one of them."""
REFERENCE, EXACT, REFERENCE_DEVICE = "reference", "reference in float64", "cpu"
"""Names of the reference and of its second opinion among the ports, and where they run."""
UNDECIDED = "reference with undecided ReLUs"
LOSS_SCALE = 128.0
"""Of a device: small gradients of float16 underflow without, and in float32 a power of two changes no bit."""


class Trainer:
    """A device that trains, with a card for the report.

    Args:
        name: As it is reported.
        device: Which; None for dumps that came from elsewhere.
    """

    def __init__(self, name: str, device: TrainingDevice | None) -> None:
        self.training = device
        self.card = DeviceCard(
            name=name,
            description="dumps of a step that was run elsewhere" if device is None else device.description,
            execution="elsewhere" if device is None else device.execution,
            toolchain="PyTorch",
            dialect="none",
            precisions=tuple(PRECISIONS) if device is None else device.precisions,
        )


class TrainingSubject:
    """The model under test.

    Args:
        options: Say which.
    """

    onnx_sha256 = None

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options

    @cached_property
    def model(self) -> CenterNet2:
        """The model on the CPU, in training mode."""
        if self.options.weights is None:
            return case_model(self.options.network)
        model = create_centernet2(self.options.network)
        load_weights(model, self.options.weights)
        return model

    @cached_property
    def weights_sha256(self) -> str:
        """Content hash of the weights."""
        if self.options.weights is not None:
            return file_sha256(self.options.weights)
        found = sha256()
        for name, value in self.model.state_dict().items():
            found.update(name.encode() + value.numpy().tobytes())
        return found.hexdigest()


class TrainingSession:
    """Everything that the checks of the training devices share.

    Args:
        options: What is checked.
        shared: Folder for files of the run.
        say: Called with signs of life.
    """

    model_card = None

    def __init__(self, options: TrainingOptions, shared: Path, say: Callable[[str], None]) -> None:
        self.options, self.shared, self.say = options, shared, say
        self.subject = TrainingSubject(options)
        self.explained: dict[str, list[TrainingFault]] = {}
        self._ports: dict[tuple[str, str], TrainingPort] = {}
        self._upstream: dict[str, Step] = {}
        self._values: dict[tuple[str, str, Rung, str], Values] = {}

    def check_devices(self) -> None:
        """Raise HarnessError where a device is not known, is not there, or lacks the precision."""
        for name in self.options.devices:
            device = self.device(name).training
            if device is not None:
                device.check()
                require_precision(device, self.options.precision)

    def check(self) -> None:
        """Raise HarnessError where something that was asked for is missing or wrong."""
        self.check_devices()
        _ = self.subject.model
        require_fit(self.dumps, self.options.precision, self.subject.model)

    def close(self) -> None:
        """Let go of models and values."""
        self._ports.clear()
        self._upstream.clear()
        self._values.clear()

    @cached_property
    def data(self) -> Data:
        """The batches, for the report."""
        found, images = sha256(), 0
        for case in map(self.case, CASES):
            images += len(case.images)
            for part in case:
                found.update(b"".join(array.tobytes() for array in part))
        return Data(name="training cases", images=images, sha256=found.hexdigest())

    def device(self, name: str) -> Trainer:
        """Return a device by name."""
        return Trainer(name, None if self.options.outputs is not None else training_device(name))

    @cached_property
    def dumps(self) -> dict[str, list[Dumped]]:
        """Dumps of a step that was run elsewhere, by batch; none where a device trains."""
        folder = self.options.outputs
        return {} if folder is None else read_dumps(folder, (*CASES, DUPLICATED, IDLE))

    def case(self, name: str) -> Case:
        """Return a batch by name; of the duplicated heads, one empty image stands for them."""
        return Case([np.zeros((3, 128, 160), np.uint8)], [], []) if name == DUPLICATED else load_case(name)

    def cases_of(self, rung: Rung) -> tuple[str, ...]:
        """Return the batches that a rung is compared on."""
        return (*CASES, DUPLICATED) if rung == "proposals" else CASES

    @property
    def reference(self) -> TrainingPort:
        """The reference: this project's step in float32 on the CPU."""
        return self.port(REFERENCE, "fp32")

    def port(self, name: str, precision: str | None = None) -> TrainingPort:
        """Return the training of a device, in the precision of the run or another."""
        key = (name, precision or self.options.precision)
        if key not in self._ports:
            self._ports[key] = self.make_port(*key)
        return self._ports[key]

    def make_port(self, name: str, precision: str) -> TrainingPort:
        """Make the training of a device as this suite has it."""
        device = training_device(REFERENCE_DEVICE if name in (REFERENCE, EXACT) else name)
        model = device.prepare(copy.deepcopy(self.subject.model))
        scale = 1.0 if (name, precision) == (REFERENCE, "fp32") else LOSS_SCALE
        solver = load_recipe(RECIPE).solver
        return TrainingPort(model.double() if name == EXACT else model, solver, device, precision, loss_scale=scale)

    def replace(self, name: str, port: TrainingPort) -> None:
        """Judge a training in place of that of a device, and forget what that gave."""
        self._ports[name, self.options.precision] = port
        self._values = {key: values for key, values in self._values.items() if key[0] != name}
        self.explained.pop(name, None)

    def upstream(self, case: str) -> Step:
        """Return what the reference's step gives on a batch, which feeds every rung."""
        if case not in self._upstream:
            self._upstream[case] = moved(self.reference.step(self.case(case)), torch.device("cpu"))
        return self._upstream[case]

    def values(self, name: str, precision: str, rung: Rung, case: str) -> Values:
        """Return what a rung of a device gives when it is fed by the reference."""
        key = (name, precision, rung, case)
        if key not in self._values:
            self._values[key] = self.fed(self.port(name, precision), rung, case)
        return self._values[key]

    def fed(self, port: TrainingPort, rung: Rung, case: str) -> Values:
        """Return what a rung of a port gives when it is fed by the reference."""
        with full_float32():
            if case == DUPLICATED:
                return fed_proposals(port, duplicated_heads())
            return fed_values(port, rung, self.case(case), self.upstream(case))

    def gradients(self) -> Gradients:
        """Return the reference's gradients of the first batch."""
        values = self.values(REFERENCE, "fp32", "gradients", CASES[0])
        return {name: value for name, value in values.items() if not name.startswith("loss")}

    def faulty(self, *changes: Callable[[TrainingPort], None]) -> TrainingPort:
        """Return the reference in the precision of the run, with changes."""
        precision = self.options.precision
        port = TrainingPort(copy.deepcopy(self.subject.model), self.reference.solver, precision=precision)
        port.loss_scale = LOSS_SCALE
        for change in changes:
            change(port)
        return port

    def basis(self, rung: Rung, case: str) -> Basis:
        """Return what the comparison of a rung on a batch rests on."""
        precision = self.options.precision
        error = None
        if precision == "fp32" and rung == "gradients":
            error = self._undecided(case)
        elif precision != "fp32" and rung in (*LAYERS, "gradients"):
            error = self.values(REFERENCE, precision, rung, case)
        rounded = None if error is None else Rounded(error, self.values(REFERENCE, "fp32", rung, case))
        settings = self.subject.model.settings
        return Basis(case, self.case(case), settings, precision, self._longest_sum(rung), rounded)

    def _undecided(self, case: str) -> Values:
        """Return the gradients of a batch, off by as much as ReLUs that rounding decides can make.

        What lies within rounding of 0 passes every ReLU in one step, and is blocked by it in another.
        """
        key: tuple[str, str, Rung, str] = (UNDECIDED, "fp32", "gradients", case)
        if key not in self._values:
            band = load_training_tolerances().exact.share
            found = []
            for passes in (True, False):
                with RelusDecided(band, passes=passes):
                    found.append(self.fed(self.reference, "gradients", case))
            right, exact = (
                self.values(REFERENCE, "fp32", "gradients", case),
                self.values(EXACT, "fp32", "gradients", case),
            )
            self._values[key] = {
                name: max((found[0][name] - found[1][name], exact[name] - value), key=lambda off: float(off.norm()))
                + value
                for name, value in right.items()
            }
        return self._values[key]

    def _longest_sum(self, rung: Rung) -> int:
        """Return the terms of the longest sum in a rung's layers."""
        kind = torch.nn.Linear if rung == "predictions" else torch.nn.Conv2d
        layers = [module for module in self.subject.model.modules() if isinstance(module, kind)]
        return max(int(layer.weight[0].numel()) for layer in layers)

    def executed(self, name: str) -> dict[str, str]:
        """Say what a device really runs on."""
        if self.options.outputs is not None:
            versions = {dump.about.torch for dumps in self.dumps.values() for dump in dumps}
            return {"pytorch, as the dumps say": ", ".join(sorted(versions))}
        device = training_device(name)
        place = device.device()
        found = {
            "pytorch": torch.__version__,
            "device": str(place),
            "precision": f"autocast to {self.options.precision}" if self.options.precision != "fp32" else "float32",
            "tf32": "off",
        }
        if place.type == "cpu":
            return {
                **found,
                "processor": platform.processor() or platform.machine(),
                "threads": str(torch.get_num_threads()),
            }
        module = getattr(torch, place.type)
        return {**found, "processor": str(module.get_device_name(place))}


def training_header(session: TrainingSession, baseline: Document | None) -> list[str]:
    """Name device, model, batches, baseline and versions."""
    options = session.options
    weights = "of the golden numbers" if options.weights is None else str(options.weights)
    lines = [
        *(f"device: {name}: {session.device(name).card.description}" for name in options.devices),
        f"model: {options.model}, weights {weights}, sha256 {session.subject.weights_sha256[:12]}",
        f"training: precision {options.precision}, up to {options.processes} processes, TF32 off",
        f"data: {session.data.name}: {', '.join(CASES)}",
        *describe_gate(session, baseline),
        "versions: " + ", ".join(f"{name} {version}" for name, version in environment().items()),
    ]
    return [printable(line) for line in lines]
