"""Devices that train, by name: the only module that knows what they are called in PyTorch.

A vendor's device is found through an entry point of the group ``centernet_conformance.training_devices`` that names a
class like `TorchDevice`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

import torch
from torch import nn

from harness.cards.device import Execution
from harness.errors import HarnessError

ModelT = TypeVar("ModelT", bound=nn.Module)

GROUP = "centernet_conformance.training_devices"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Types that the layers of a training compute in; losses and boxes are float32 in all of them."""


class TrainingDevice(Protocol):
    """A device that trains.

    Attributes:
        name: By which it is asked for.
        description: In a few words.
        precisions: That it can train in, of `PRECISIONS`.
        execution: Whether it is the chip itself, or something that stands for it.
    """

    name: str
    description: str
    precisions: tuple[str, ...]
    execution: Execution

    def check(self) -> None:
        """Raise HarnessError where the device is not there, and say what is missing."""

    def device(self, process: int = 0) -> torch.device:
        """Return PyTorch's device of a process of this host."""

    def count(self) -> int:
        """Return how many processes of this host can have a device of their own."""

    def prepare(self, model: ModelT, process: int = 0) -> ModelT:
        """Return a model that trains on the device of a process; operations that it lacks may be replaced."""

    def make_scaler(self, scale: float) -> torch.amp.GradScaler:
        """Make the scaler of losses, which skips a step whose gradients overflow."""


class TorchDevice:
    """A device that PyTorch knows by itself, or through a package that is imported when it is asked for.

    Args:
        name: PyTorch's type of the device.
        package: That brings it; None where PyTorch does.
    """

    precisions = tuple(PRECISIONS)
    execution: Execution = "silicon"

    def __init__(self, name: str, package: str | None = None) -> None:
        self.name, self.package = name, package
        self.description = f"PyTorch's {name}" + (f", by {package}" if package else "")

    def check(self) -> None:
        """Raise HarnessError where the package or the device is missing."""
        if self.name == "cpu":
            return
        if self.package is not None:
            self._import()
        if not self._module_is_available():
            missing = f"{self.package} is installed, and finds" if self.package else "PyTorch finds"
            raise HarnessError(
                f"device '{self.name}' is not there: {missing} none on this host",
                field="--device",
                remedy="check its driver and what makes it visible to processes, or choose --device cpu",
            )

    def _import(self) -> None:
        assert self.package is not None
        try:
            import_module(self.package)
        except Exception as error:  # without the vendor's libraries it raises whatever they raise
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise HarnessError(
                f"device '{self.name}' is not there: {self.package} cannot be imported: {said}",
                field="--device",
                remedy=f"install {self.package} for this PyTorch ({torch.__version__}) and set up its environment",
            ) from error

    def _module_is_available(self) -> bool:
        module = getattr(torch, self.name, None)
        return module is not None and bool(module.is_available())

    def count(self) -> int:
        """Return the devices of this host; processes on a CPU share it."""
        return 2**16 if self.name == "cpu" else int(getattr(torch, self.name).device_count())

    def device(self, process: int = 0) -> torch.device:
        """Return PyTorch's device of a process of this host."""
        return torch.device("cpu") if self.name == "cpu" else torch.device(self.name, process)

    def prepare(self, model: ModelT, process: int = 0) -> ModelT:
        """Return the model on the device of a process."""
        return model.to(self.device(process))

    def make_scaler(self, scale: float) -> torch.amp.GradScaler:
        """Make PyTorch's own scaler, which takes Inf and NaN for an overflow."""
        return torch.amp.GradScaler(self.device().type, init_scale=scale)


IMAGINED = torch.device("cuda")
"""Device that is not the CPU, on which tensors without values can be said to be wherever PyTorch runs.

Without its package, PyTorch cannot index tensors that are said to be on an NPU.
"""
OWN = {"cpu": TorchDevice("cpu"), "cuda": TorchDevice("cuda"), "npu": TorchDevice("npu", "torch_npu")}


def training_device_names() -> list[str]:
    """Return the names of the devices that can be asked for, the suite's own first."""
    return [*OWN, *sorted({entry.name for entry in entry_points(group=GROUP)} - OWN.keys())]


def training_device(name: str) -> TrainingDevice:
    """Return the device of this name; its `check` says whether it can train on this host.

    Raises:
        HarnessError: There is no such device, or it cannot be imported.
    """
    if name in OWN:
        return OWN[name]
    found = {entry.value: entry for entry in entry_points(group=GROUP) if entry.name == name}
    if len(found) > 1:
        offered = " and by ".join(sorted(found))
        raise HarnessError(
            f"training device '{name}' is offered by {offered}", field="--device", remedy="uninstall one of them"
        )
    if not found:
        known = training_device_names()
        near = difflib.get_close_matches(name, known, n=1)
        remedy = (f"did you mean '{near[0]}'? " if near else "") + f"devices that train: {', '.join(known)}"
        raise HarnessError(f"no training device named '{name}'", field="--device", remedy=remedy)
    entry = next(iter(found.values()))
    try:
        made: TrainingDevice = entry.load()()
    except Exception as error:  # a vendor's module may raise anything
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise HarnessError(
            f"training device '{name}' cannot be made: {said}", file=entry.value, remedy="install what it needs"
        ) from error
    return made


def require_precision(device: TrainingDevice, precision: str) -> None:
    """Raise HarnessError where the device cannot train in a precision."""
    if precision not in device.precisions:
        raise HarnessError(
            f"device '{device.name}' cannot train in '{precision}'",
            field="--precision",
            remedy=f"use one of {', '.join(device.precisions)}",
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which layers compute in a precision; in fp32 it changes nothing."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")


def make_current(device: torch.device) -> None:
    """Make a device the one that its PyTorch module takes where none is named, as collectives do."""
    if device.type != "cpu":
        torch.get_device_module(device).set_device(device)


def device_random_state(device: torch.device) -> torch.Tensor | None:
    """Return the state of a device's random generator; None for the CPU, whose state is PyTorch's own."""
    if device.type == "cpu":
        return None
    state: torch.Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


def set_device_random_state(device: torch.device, state: torch.Tensor | None) -> None:
    """Set the random generator of a device to what `device_random_state` gave, of a device of the same kind."""
    if device.type != "cpu" and state is not None:
        torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 in full within the context: TF32, of 10 bits, is off."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
