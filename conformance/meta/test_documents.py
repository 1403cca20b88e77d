"""The README files: their commands, options, markers and links exist, and both languages show the same commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.cli import app
from harness.devices.registry import METHODS
from harness.report.measured import check_measured
from harness.report.scoreboard import check_scoreboard

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted(
    path
    for folder in (".", "conformance", "fixtures", "harness", "reports")
    for path in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")
    if "_data" not in path.parts
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_PYTEST = {"--pyargs", "--junitxml", "--collect-only", "--lf"}
"""Options of pytest and its plug-ins whose destination has another name."""
OF_VENDORS = {"--batchsize", "--opt"}


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text) if found == language]


def commands(text: str) -> list[str]:
    """Shell commands of the blocks, and code in the text that is a command, an option or a marker."""
    lines = [line for body in blocks(text, "shell") for line in body.splitlines() if not line.startswith("#")]
    lines = [part.strip() for line in lines for part in line.split("&&")]
    lines += re.findall(r"- run: (.*)", text)
    return lines + re.findall(r"`((?:pytest |python -m harness |--|-m )[^`]*)`", FENCE.sub("", text))


def verb_options() -> dict[str, set[str]]:
    found = typer.main.get_command(app)
    return {
        name: {option for one in (verb, *verbs_below(verb)) for parameter in one.params for option in parameter.opts}
        | {"--help"}
        for name, verb in found.commands.items()  # type: ignore[attr-defined]
    }


def verbs_below(verb: Any) -> Iterable[Any]:  # noqa: ANN401 - of typer's own click
    return getattr(verb, "commands", {}).values()


def unknown(command: str, config: pytest.Config) -> Iterator[str]:
    """Verbs, options and markers of a command that do not exist."""
    known_verbs, words = verb_options(), shlex.split(command.replace("…", ""))
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    in_pytest = {f"--{name.replace('_', '-')}" for name in vars(config.option)} | OF_PYTEST
    if command.startswith("python -m harness "):
        verb = words[3]
        if verb.startswith("-") or verb == "VERB":
            return
        yield from (f"verb {name}" for name in {verb} - set(known_verbs))
        yield from (f"{verb} {option}" for option in options - known_verbs.get(verb, set()))
        return
    everywhere = set().union(*known_verbs.values()) if command.startswith("--") else set()
    yield from options - in_pytest - everywhere - OF_VENDORS
    markers = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    for expression in (words[place + 1] for place, word in enumerate(words[:-1]) if word == "-m"):
        yield from (f"marker {name}" for name in set(re.findall(r"\w+", expression)) - markers - {"and", "or", "not"})


@pytest.mark.parametrize("name", NAMES)
def test_commands_options_and_markers_exist(name: str, pytestconfig: pytest.Config) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    wrong = {
        command: found
        for command in commands(text)
        if command.startswith(("pytest", "python -m harness", "--", "-m"))
        and (found := list(unknown(command.replace("python -m harness --help", "pytest"), pytestconfig)))
    }
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_links_exist(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", FENCE.sub("", path.read_text(encoding="utf-8")))
    for target, anchor in links:
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


def test_both_languages_show_the_same_commands() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert blocks(english, "shell") == blocks(chinese, "shell")
    assert re.findall(r"<!-- ci: .* -->", english) == re.findall(r"<!-- ci: .* -->", chinese)
    assert english.count("\n## ") == chinese.count("\n## ")
    assert len(english.splitlines()) <= 120


def test_the_device_of_the_how_to_keeps_the_contract() -> None:
    [code] = blocks((ROOT / "harness/README.md").read_text(encoding="utf-8"), "python")
    assert len(code.splitlines()) <= 45
    names: dict[str, object] = {"__name__": "mychip"}
    exec(compile(code, "harness/README.md", "exec"), names)
    assert all(callable(getattr(names["MyChip"], method)) for method in METHODS)


def test_the_training_steps_of_the_how_to_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "harness/centernet2/README.md").read_text(encoding="utf-8")
    number = re.compile(r"\d+\.\d+")
    pairs = list(zip(blocks(text, "python"), blocks(text, "text"), strict=True))
    assert len(pairs) == 2
    for code, said in pairs:
        exec(compile(code, "harness/centernet2/README.md", "exec"), {})
        printed = capsys.readouterr().out
        assert number.sub("#", printed.strip()) == number.sub("#", said.strip().replace("\n ", " "))


def test_the_page_of_measured_figures_is_up_to_date() -> None:
    check_measured(ROOT / "reports")
    check_scoreboard(ROOT / "reports")
