"""Installation of the stand-ins as a vendor's package: a folder with an entry point and a card for each device."""

import datetime
import inspect
import shutil
from pathlib import Path

from conformance.support.stand_ins import vendor_devices as standin

CARD = """\
name = "{name}"
description = "{description}"
execution = "stand-in"
toolchain = "none"
dialect = "standard"
precisions = ["{precision}"]
"""

ENTRY = """\
[[expectation]]
test = "{test}"
stage = "{stage}"
precision = "fp32"
reason = "the vendor's compiler exchanges width and height"
source = "ticket 17"
since = "0.1.0"
until = "{until}"
"""

HEADS = "test_heads.py::test_device_heads_equal_reference"
NEVER = "9999-12-31"
SOON = str(datetime.date.today() + datetime.timedelta(days=200))
KNOWN = "known.toml"
"""File of the expectations of all devices, which a run is given."""

EXPECTATIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "excused": (
        (HEADS, "heads", SOON),
        ("test_heads.py::test_device_decides_as_the_reference", "detections", SOON),
        ("test_accuracy.py::*", "accuracy", SOON),
    ),
    "elsewhere": ((HEADS, "detections", SOON),),
    "late": ((HEADS, "heads", SOON),),
    "refused": ((HEADS, "conversion", SOON),),
    "cured": ((HEADS, "heads", SOON),),
    "stray": (("test_heads.py::test_device_head_equals_reference", "heads", SOON),),
    "expired": ((HEADS, "heads", "2020-02-02"),),
}
"""(test, stage, until) of each entry, by device."""


def install(folder: Path) -> None:
    """Fill `folder`, which callers put on the module path."""
    shutil.copy(standin.__file__, folder / "standin.py")
    kinds = [kind for _, kind in inspect.getmembers(standin, inspect.isclass) if issubclass(kind, standin.Right)]
    for kind in kinds:
        name = kind.__name__.lower()
        precision = "fp16" if kind is standin.HalfOnly else "fp32"
        card = CARD.format(name=name, description=inspect.getdoc(kind), precision=precision)
        (folder / f"{name}.toml").write_text(card, encoding="utf-8")
    (folder / KNOWN).write_text("".join(_entries(name) for name in EXPECTATIONS), encoding="utf-8")
    proposed = _entries("excused").replace(SOON, NEVER)
    (folder / "excused.expectations.toml").write_text(proposed, encoding="utf-8")
    metadata = folder / "standin-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: standin\nVersion: 0.1\n")
    points = [f"{kind.__name__.lower()} = standin:{kind.__name__}" for kind in kinds]
    (metadata / "entry_points.txt").write_text("\n".join(["[centernet_conformance.devices]", *points, ""]))


def _entries(name: str) -> str:
    entries = [
        ENTRY.format(test=test, stage=stage, until=until) + f'device = "{name}"\n\n'
        for test, stage, until in EXPECTATIONS[name]
    ]
    return "".join(entries)


def line_of(name: str) -> str:
    """Give FILE:LINE of the first entry of a device, as messages do."""
    names = list(EXPECTATIONS)
    before = "".join(map(_entries, names[: names.index(name)]))
    return f"{KNOWN}:{len(before.splitlines()) + 1}"
