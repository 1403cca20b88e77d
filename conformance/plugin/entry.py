"""Entry point of the suite in pytest (group ``pytest11``): loads the suite's layer for a run of the suite's own tests.

Every pytest in an environment where this package is installed loads this module. Where a run concerns none of the
suite's tests, it declares no option, no marker and no hook, and imports nothing but pytest.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

LAYER = ("config", "selection", "fixtures", "expectations", "session", "manners", "last_resort")
TAKE_PATHS = (
    "--model", "--weights", "--onnx", "--coco", "--outputs", "--results", "--report", "--baseline", "--against",
    "--expectations", "--config",
)  # fmt: skip
PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = {"site-packages", "dist-packages"}


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the suite's layer, options included, where the run concerns the suite's tests."""
    del parser  # the layer's own hook gets it
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    if _concerns_suite(config):
        names = [f"{PACKAGE.name}.plugin.{name}" for name in LAYER]
        for name in names:
            pluginmanager.import_plugin(name)
        blocked = [name for name in names if not pluginmanager.hasplugin(name)]
        if blocked:
            raise pytest.UsageError(
                f"-p no:{blocked[0]}: without this part of the suite no verdict can be given\n  remedy: leave it out"
            )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Read the command line again with ``--coco X`` as ``--coco=X``, so that X is not taken for a folder of tests.

    pytest looks for its root folder and configuration before any plug-in can declare an option: it takes X, if that
    exists, for a path of tests, and the folders above X for the project's.
    """
    given = list(map(str, config.invocation_params.args))
    joined = join_values(given)
    if joined == given or not _is_loaded(config):
        return None
    return pytest.main(joined, plugins=config.invocation_params.plugins)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    """Refuse tests of the suite that were reached by a way that did not load its layer, such as a link to a folder.

    Raises:
        CollectError: The layer is not loaded.
    """
    if is_own(module_path) and not _is_loaded(parent.config):
        raise pytest.Collector.CollectError(
            f"{module_path}: a test of {PACKAGE.name}, which the command line does not name\n"
            f"  remedy: name it, such as: pytest --pyargs {PACKAGE.name}"
        )


def is_own(path: Path) -> bool:
    """Tell whether a file or folder is the package of the suite's tests or lies in it."""
    path = path.resolve()
    return path == PACKAGE or PACKAGE in path.parents


def join_values(arguments: Sequence[str]) -> list[str]:
    """``["--coco", "X"]`` -> ``["--coco=X"]`` for the options whose value may be a path."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in TAKE_PATHS and not argument.startswith("-"):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_loaded(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin(f"{PACKAGE.name}.plugin.{LAYER[0]}")


def _concerns_suite(config: pytest.Config) -> bool:
    """Tell from the arguments, or without any from the current folder, whether tests of the suite will be collected.

    At this time pytest has not told the values of other plug-ins' options from the names of tests. A value can only
    follow an option: such an argument counts where it is the suite's own, and is otherwise left out of account.
    """
    known = config.known_args_namespace
    given = [str(argument) for argument in config.invocation_params.args]
    first = {argument for before, argument in zip(["", *given], given, strict=False) if not before.startswith("-")}
    # To argparse an unknown option with a space in its value is no option.
    names = [name.partition("::")[0] for name in known.file_or_dir if not name.startswith("-")]
    if known.pyargs and any(f"{name}.".startswith(f"{PACKAGE.name}.") for name in names):
        return True
    places = [config.invocation_params.dir / name for name in names]
    if any(is_own(place) or place.resolve() == PACKAGE.parent for place in places if _exists(place)):
        return True
    tests = [config.invocation_params.dir / name for name in names if name in first]
    return any(map(_holds_suite, tests)) if tests else _holds_suite_by_default(config)


def _holds_suite_by_default(config: pytest.Config) -> bool:
    folder = config.invocation_params.dir
    chosen: Iterable[str] = config.getini("testpaths") if folder == config.rootpath else ()
    if chosen and config.known_args_namespace.pyargs:
        return any(f"{name}.".startswith(f"{PACKAGE.name}.") for name in chosen)
    return any(map(_holds_suite, [folder / name for name in chosen] or [folder]))


def _holds_suite(path: Path) -> bool:
    """Tell whether pytest finds tests of the suite below `path`: it does not look into virtual environments."""
    path = path.resolve()
    below = PACKAGE.parts[len(path.parts) :] if path in PACKAGE.parents else ()
    return is_own(path) or (bool(below) and INSTALLED.isdisjoint(below))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a value that no file can be named after
        return False
