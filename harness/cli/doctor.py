"""`doctor`: packages that are installed, and devices that can run here."""

from __future__ import annotations

import os
import platform
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import HarnessError
from harness.paths import STORE, cache_path
from harness.report.escape import printable, printable_lines

DISTRIBUTION = "centernet-conformance"


class Toolchain(StrEnum):
    """The toolchains that can be installed."""

    tpu_mlir = "tpu_mlir"


def doctor(
    install: Annotated[
        Toolchain | None, typer.Option(help="Put a vendor's toolchain into an environment of its own first.")
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Empty the store of outputs first, by --older-than and --larger-than.")
    ] = False,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="With --prune: outputs that nothing has touched for so long.")
    ] = 30.0,
    larger_than: Annotated[
        float, typer.Option(metavar="GB", min=0, help="With --prune: the oldest, until the rest has this size.")
    ] = 10.0,
) -> None:
    """Say what is installed, and which devices can run here; install a vendor's toolchain.

    Ends with status 4 where a package that the suite requires is missing or too old; a device that is not there is
    only said to be so. tpu_mlir, Sophon's compiler and simulators, needs a Python 3.10 beside this one and 2 GB in
    the cache folder.

    Example: python -m harness doctor
    Example: python -m harness doctor --install tpu_mlir
    Example: python -m harness doctor --prune --older-than 7
    """
    if install is not None:
        from harness.cli.progress import signs_of_life
        from harness.convert.tpu_mlir.environment import install as install_tpu_mlir

        with signs_of_life():
            environment = install_tpu_mlir()
        print(f"{install.value} is in {environment.root}")
    console = Console(soft_wrap=True)
    console.print(f"{platform.platform()}, {os.cpu_count()} cores", highlight=False, markup=False)
    console.print(f"cache folder {printable(_writable(cache_path()))}", highlight=False, markup=False)
    console.print(_store(older_than, larger_than, prune=prune), highlight=False, markup=False)
    table, problems = Table("package", "required", "installed", "", box=None), []
    for requirement in required_packages():
        found = _installed(requirement.name)
        problem = _problem(requirement, found)
        table.add_row(
            requirement.name,
            str(requirement.specifier),
            escape(printable(found or "-")),
            escape(printable(problem or "ok")),
        )
        if problem:
            problems.append(f"{requirement.name} is {problem}")
    console.print(table)
    if problems:
        raise HarnessError(
            f"{', '.join(problems)}; the devices were not looked for",
            remedy="run 'pip install -e .' in the checkout, in the environment of this Python",
        )
    console.print(_devices())


def _store(older_than: float, larger_than: float, *, prune: bool) -> str:
    """Say where the store of outputs is and what it holds, after emptying it where that is asked for."""
    from harness.run.pruning import GB, prune_store, stored_size

    folder = cache_path() / STORE
    removed = ""
    if prune:
        count, size = prune_store(folder, older_than, larger_than)
        removed = f"; {count} sets of outputs, {size / GB:.2f} GB, were removed"
    count, size = stored_size(folder)
    return f"store of outputs {printable(folder)}: {count} sets, {size / GB:.2f} GB{removed}"


def required_packages() -> list[Requirement]:
    """Packages that the suite requires, Python first, as its installed metadata says.

    Raises:
        HarnessError: The suite is not installed.
    """
    try:
        lines = [f"Python{metadata(DISTRIBUTION)['Requires-Python']}", *(requires(DISTRIBUTION) or [])]
    except PackageNotFoundError as error:
        raise HarnessError(
            f"{DISTRIBUTION} is not installed", remedy="run 'pip install -e .' in the checkout"
        ) from error
    parsed = [Requirement(line) for line in lines]
    return [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]


def _installed(package: str) -> str | None:
    if package == "Python":
        return platform.python_version()
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _problem(requirement: Requirement, found: str | None) -> str | None:
    if found is None:
        return "missing"
    return None if requirement.specifier.contains(found, prereleases=True) else f"{found}, not {requirement.specifier}"


def _devices() -> Table:
    """Each device and whether it can run here; a reason that several share is given at the first of them."""
    import onnxruntime

    from harness.devices.registry import create_device, device_names

    table = Table("device", "execution", "here", box=None)
    first: dict[str, str] = {}
    for name in device_names():
        execution = "-"
        try:
            device = create_device(name)
            execution = device.card.execution
            device.check()
            state = "can run"
        except HarnessError as error:
            # The name of the device is all that may differ.
            reason = error.message().replace(name, "DEVICE")
            state = error.message() if first.setdefault(reason, name) == name else f"as {first[reason]}"
        table.add_row(*(escape(printable_lines(text)) for text in (name, execution, state)))
    table.caption = f"onnxruntime offers {', '.join(onnxruntime.get_available_providers())}"
    table.caption_justify = "left"
    return table


def _writable(folder: Path) -> Path:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise HarnessError(
            "the cache cannot be written", file=folder, remedy="set CENTERNET_CONFORMANCE_CACHE to another folder"
        )
    return folder
