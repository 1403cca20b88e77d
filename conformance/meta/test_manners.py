"""Installed beside the tests of others, the suite's plug-in changes nothing for them."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.plugin import entry, manners, selection
from conformance.plugin.config import CONFIG
from conformance.plugin.entry import INSTALLED, PACKAGE
from conformance.support.suite import CHECKS, Suite

OFF = ("-p", "no:centernet_conformance")
CONFTEST = """
def pytest_addoption(parser):
    for name in ("--device", "--model", "--results"):
        parser.addoption(name, default="theirs")
"""
TESTS = """
import sys, warnings
import pytest

@pytest.mark.perf
def test_warns():
    warnings.warn("of the user")

@pytest.mark.catalogue
@pytest.mark.xfail
def test_passes_unexpectedly(pytestconfig):
    assert pytestconfig.option.device == "theirs"
    assert not {"torch", "numpy", "pydantic", "harness"} & set(sys.modules)

@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3])
def test_has_parameters_of_its_own(batch_size):
    assert batch_size == 3
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``pytest ARGUMENTS`` in a folder, without what other plug-ins import."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    others = ("-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *others, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The repository of a user, with tests of its own."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_own.py").write_text(TESTS)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("-m", "slow"), ("--markers",), ("--help",), ("-rA", "test_own.py")])
def test_a_project_of_others_runs_as_without_the_plug_in(project: Path, arguments: tuple[str, ...]) -> None:
    both = [run(project, "--no-header", *arguments, *off) for off in ((), OFF)]
    with_it, without = (re.sub(r"in \d+\.\d+s|plugin .*", "", ended.stdout + ended.stderr) for ended in both)
    assert with_it == without
    assert both[0].returncode == 0


def test_their_tests_keep_their_ways_in_a_run_of_both(project: Path) -> None:
    (project / "conftest.py").unlink()
    (project / "test_own.py").write_text(TESTS.partition("    assert pytestconfig")[0] + "    pass\n")
    ended = run(project, "test_own.py", "--pyargs", "conformance.harness.test_paths")
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"\d+ passed, 1 xpassed, 1 warning\b", ended.stdout), ended.stdout


def test_warnings_fail_the_tests_of_the_suite(request: pytest.FixtureRequest) -> None:
    with pytest.raises(UserWarning, match="of the suite"):
        warnings.warn("of the suite", stacklevel=1)
    assert {"accuracy", "catalogue"} <= {line.split(":")[0] for line in request.config.getini("markers")}


@pytest.mark.parametrize(
    ("path", "marks"), [(Path(__file__), ["filterwarnings", "xfail"]), (Path("/usr/test_x.py"), [])]
)
def test_unexpected_pass_fails_a_test_of_the_suite(path: Path, marks: list[str]) -> None:
    added: list[pytest.MarkDecorator] = []
    item = SimpleNamespace(path=path, iter_markers=lambda name: [pytest.mark.xfail(reason="known").mark])
    item.add_marker = lambda mark, append: added.append(mark)
    config = SimpleNamespace(option=SimpleNamespace(pythonwarnings=None))
    manners.pytest_collection_modifyitems(cast(pytest.Config, config), [cast(pytest.Item, item)])
    assert [mark.name for mark in added] == marks
    assert all(mark.kwargs == {"reason": "known", "strict": True} for mark in added if mark.name == "xfail")


@pytest.mark.parametrize(
    ("folder", "arguments", "left", "expected"),
    [
        (PACKAGE.parent, [], [], INSTALLED.isdisjoint(PACKAGE.parts)),
        (PACKAGE.parent, ["--coco", "/", "-n", "2"], ["/", "2"], INSTALLED.isdisjoint(PACKAGE.parts)),
        (PACKAGE.parent, ["--coco=/my data"], ["--coco=/my data"], INSTALLED.isdisjoint(PACKAGE.parts)),
        (PACKAGE.parent, ["conformance/device", "-x"], ["conformance/device"], True),
        (PACKAGE.parent, ["harness", "-x"], ["harness"], False),
        (Path("/usr"), ["--pyargs", "conformance.device::test", "-x"], ["conformance.device::test"], True),
        (Path("/usr"), ["--pyargs", "conformances"], ["conformances"], False),
        (Path("/usr"), ["conformance"], ["conformance"], False),
        (Path("/usr"), ["-x", str(PACKAGE)], [str(PACKAGE)], True),
        (Path("/usr"), [], [], False),
        (Path("/usr"), ["--root", "/"], ["/"], False),
        (Path("/usr"), ["--text", "x" * 5000], ["x" * 5000], False),
    ],
)
def test_a_run_concerns_the_suite_where_it_names_its_tests(
    folder: Path, arguments: list[str], left: list[str], expected: bool
) -> None:
    known = SimpleNamespace(file_or_dir=left, pyargs="--pyargs" in arguments)
    invoked = SimpleNamespace(args=tuple(arguments), dir=folder)
    config = SimpleNamespace(known_args_namespace=known, invocation_params=invoked, rootpath=None)
    assert entry._concerns_suite(cast(pytest.Config, config)) is expected


def test_tests_reached_through_a_link_are_refused_with_the_way_to_run_them(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(PACKAGE / "meta")
    ended = run(tmp_path)
    assert ended.returncode == 2
    assert "remedy: name it, such as: pytest --pyargs conformance" in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_existing_path_after_an_option_is_no_place_of_tests(suite: Suite, tmp_path: Path, where: str) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    (data / "pytest.ini").write_text("[pytest]\naddopts = -k nothing\n")
    values = {"--coco": suite.tiny.coco, "--weights": suite.tiny.weights, "--results": data / "results.json"}
    data.joinpath("results.json").write_text("")
    apart = [part for name, value in values.items() for part in (name, str(value))]
    tests = ["--pyargs", "conformance.device"] if where == "elsewhere" else [CHECKS[0]]
    lines = []
    for options in (apart, [f"{name}={value}" for name, value in values.items()]):
        ended = suite.run("--collect-only", *tests, f"--model={suite.tiny.card}", options=options)
        assert ended.status == 0, ended.output
        lines.append(re.findall(r"rootdir: .*|configfile: .*|collected \d+ .*", ended.output))
    assert lines[0] == lines[1]
    assert str(data) not in lines[0][0]


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({}, "attacks catalogue fuzz r50 simulator toolchain"),
        ({"checkout": False}, "attacks catalogue checkout fuzz r50 simulator toolchain"),
        ({"workers": 2, "markexpr": "perf or catalogue"}, "perf"),
        ({"markexpr": "accuracy", "checkout": False}, "checkout"),
        ({"args": ("-m", "")}, ""),
    ],
)
def test_only_tests_of_the_suite_are_left_out(
    options: dict[str, Any], left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def item(path: Path, mark: str) -> pytest.Item:
        made = SimpleNamespace(path=path, name=mark, iter_markers=lambda: [getattr(pytest.mark, mark)])
        return cast(pytest.Item, made)

    gone: list[pytest.Item] = []
    config = SimpleNamespace(
        stash={CONFIG: SimpleNamespace(workers=options.get("workers", 0))},
        option=SimpleNamespace(markexpr=options.get("markexpr", "")),
        invocation_params=SimpleNamespace(args=options.get("args", ())),
        hook=SimpleNamespace(pytest_deselected=lambda items: gone.extend(items)),
    )
    monkeypatch.setattr(selection, "in_checkout", lambda: options.get("checkout", True))
    marks = sorted(manners.MARKERS)
    items = [item(path, mark) for path in (Path("/usr/test_of_others.py"), Path(__file__)) for mark in marks]
    selection.pytest_collection_modifyitems(cast(pytest.Config, config), items)
    assert [test.name for test in gone] == left_out.split()
    assert [test.name for test in items] == [*marks, *(mark for mark in marks if mark not in left_out.split())]


def test_every_option_that_takes_a_path_is_known_to_take_one(suite: Suite) -> None:
    shown = suite.run("--help", options=()).output.partition("CenterNet conformance:")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"(--[\w-]+)=(?:FILE|DIR|ROOT|CARD|OLD)\b", shown)) == entry.TAKE_PATHS


def test_marker_that_is_gone_names_what_takes_its_place(suite: Suite) -> None:
    ended = suite.run("--device=right", "-m", "numerics and not perf")
    assert (ended.status, ended.result.verdict) == (4, "error")
    assert "-m numerics: this marker is gone\n  remedy: name the tests: pytest conformance/harness" in ended.output
