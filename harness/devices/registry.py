"""Devices by name, found through entry points so that a vendor can keep one in a package of its own."""

from __future__ import annotations

import difflib
import re
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, entry_points

from harness.cards import DeviceCard
from harness.devices.base import Device, dialects
from harness.devices.foreign import ForeignDevice
from harness.errors import HarnessError

GROUP = "centernet_conformance.devices"
METHODS = ("check", "convert", "run")
OWN = "centernet-conformance"
"""Distribution whose devices run in this process and are told their name."""

_open: dict[str, ForeignDevice] = {}
"""Devices of other distributions by entry point: each has one process, until it is closed."""


def device_names() -> list[str]:
    """Return the names of the devices that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def create_device(name: str) -> Device:
    """Make the device of this name; its `check` says whether it can run on this machine.

    A device of another distribution lives in a process of its own, which all who ask for it share until it is closed.

    Raises:
        HarnessError: No such device; two packages offer it; it cannot be imported; or it is no `Device`.
    """
    entry = _find(name)
    if entry.dist is None or is_own(entry.dist):
        return make_device(name, entry.value, () if entry.dist is None else (name,))
    key = f"{name}={entry.value}"
    known = _open.get(key)
    if known is not None and not known.closed:
        return known
    device = ForeignDevice(name, entry.value, entry.dist.name)
    if device.card.dialect not in dialects() or device.card.dialect == "module":
        device.close()
        raise _refused_dialect(device.card, entry.value)
    _open[key] = device
    return device


def distribution_of(name: str) -> Distribution | None:
    """Return the distribution that brings a device; None where its entry point does not tell.

    Raises:
        HarnessError: No such device, or two packages offer it.
    """
    return _find(name).dist


def is_own(distribution: Distribution) -> bool:
    """Tell whether a distribution is this project's."""
    return _normal(distribution.name) == OWN


def make_device(name: str, value: str, arguments: tuple[str, ...] = ()) -> Device:
    """Construct a device in this process and hold it to the contract.

    Args:
        name: Of the device.
        value: Its entry point, ``module:class``.
        arguments: Of its constructor.

    Raises:
        HarnessError: It cannot be imported, lacks a method or a card, or has the card of another device.
    """
    module, _, attribute = value.partition(":")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, OSError) as error:
        raise HarnessError(
            f"device '{name}' cannot be imported: {error}", file=value, remedy="install what it needs"
        ) from error
    lacking = [method for method in METHODS if not callable(getattr(kind, method, None))]
    device: Device | None = None if lacking else kind(*arguments)
    card = getattr(device, "card", None)
    if device is None or not isinstance(card, DeviceCard):
        raise HarnessError(
            f"'{name}' is no device: it lacks {', '.join(lacking) or 'a card'}",
            file=value,
            remedy="write it as harness/devices/base.py says",
        )
    if card.name != name:
        raise HarnessError(f"device '{name}' has the card of '{card.name}'", file=value, remedy="give both one name")
    return device


def _refused_dialect(card: DeviceCard, value: str) -> HarnessError:
    if card.dialect == "module":
        return HarnessError(
            f"device '{card.name}' takes the PyTorch network itself, and a device of another distribution runs in a "
            "process of its own, where no live network can be handed over",
            file=card.file or value,
            field="dialect",
            remedy=f"take one of {', '.join(dialects()[1:-1])}",
        )
    near = difflib.get_close_matches(card.dialect, dialects(), n=1)
    return HarnessError(
        f"no dialect '{card.dialect}'",
        file=card.file or value,
        field="dialect",
        remedy=f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(dialects())}",
    )


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _find(name: str) -> EntryPoint:
    # A checkout that is installed and also the current folder is found twice.
    found = {entry.value: entry for entry in entry_points(group=GROUP) if entry.name == name}
    if len(found) > 1:
        raise HarnessError(
            f"device '{name}' is offered by {' and by '.join(sorted(found))}",
            field="--device",
            remedy="uninstall one of the packages",
        )
    if not found:
        known = device_names()
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean '{near[0]}'? " if near else ""
        remedy += f"installed: {', '.join(known)}" if known else "install this project: pip install -e ."
        raise HarnessError(f"no device named '{name}'", field="--device", remedy=remedy)
    return next(iter(found.values()))
