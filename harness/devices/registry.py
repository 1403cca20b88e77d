"""Devices by name, found through entry points so that a vendor can keep one in a package of its own."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from harness.cards import DeviceCard
from harness.devices.base import Device
from harness.errors import HarnessError

GROUP = "centernet_conformance.devices"
METHODS = ("check", "convert", "run")


def device_names() -> list[str]:
    """Names of the devices that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def create_device(name: str) -> Device:
    """The device of this name; whether it can run on this machine is for its `check` to say.

    Raises:
        HarnessError: No such device; two packages offer it; it cannot be imported; or it is no `Device`.
    """
    entry = _find(name)
    try:
        kind = entry.load()
    except (ImportError, AttributeError, OSError) as error:
        raise HarnessError(
            f"device '{name}' cannot be imported: {error}", file=entry.value, remedy="install what it needs"
        ) from error
    lacking = [method for method in METHODS if not callable(getattr(kind, method, None))]
    device: Device | None = None if lacking else kind()
    card = getattr(device, "card", None)
    if device is None or not isinstance(card, DeviceCard):
        raise HarnessError(
            f"'{name}' is no device: it lacks {', '.join(lacking) or 'a card'}",
            file=entry.value,
            remedy="write it as harness/devices/base.py says",
        )
    if card.name != name:
        raise HarnessError(
            f"device '{name}' has the card of '{card.name}'", file=entry.value, remedy="give both the same name"
        )
    return device


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
