"""Completion in bash of the command of one word, and the command itself beside ``python -m harness``."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.support.command_line import run
from harness.cards import model_card_names
from harness.cards.tolerances import precision_names
from harness.cli.completion import PROGRAM, devices, joined, models
from harness.devices.registry import device_names
from harness.paths import ROOT, in_checkout

ASKS = "_CENTERNET_CONFORMANCE_COMPLETE"
WITHOUT_LIBRARIES = "import sys; sys.modules |= dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'cv2', 'torchvision'))"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as its entry point makes it, where the libraries that take seconds to load cannot be imported."""
    file = tmp_path_factory.mktemp("bin") / PROGRAM
    call = "from harness.__main__ import run_command; run_command()"
    file.write_text(f"#!{sys.executable}\n{WITHOUT_LIBRARIES}; sys.path.insert(0, {str(ROOT)!r}); {call}\n")
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def function(command: Path) -> str:
    """The function and its registration, as bash loads them."""
    return subprocess.run([command], env={**os.environ, ASKS: "source_bash"}, capture_output=True, text=True).stdout


def completed(command: Path, function: str, *words: str) -> list[str]:
    """Answers of the function in a real bash for the last of the words."""
    place = len(words)
    script = f'{function}\nCOMP_WORDS=("$@"); COMP_CWORD={place}; _centernet_conformance_completion "$1" "${{@: -1}}"\n'
    script += 'printf "%s\\n" "${COMPREPLY[@]}"'
    ended = subprocess.run(["bash", "--norc", "-c", script, "-", command, *words], capture_output=True, text=True)
    assert ended.stderr == ""
    return ended.stdout.split()


def test_names_of_verbs_devices_models_and_precisions_are_completed(command: Path, function: str) -> None:
    assert completed(command, function, "hist") == ["history"]
    assert completed(command, function, "check", "--device", "onn") == ["onnxruntime"]
    assert completed(command, function, "check", "--device", "onnxruntime,tor") == ["onnxruntime,torch"]
    assert completed(command, function, "export", "--model", "resdcn_") == ["resdcn_101", "resdcn_18"]
    assert completed(command, function, "infer", "--precision", "") == precision_names()
    assert completed(command, function, "check", "--device", "none-such") == []


def test_word_that_bash_splits_at_a_colon_is_completed_behind_it(command: Path, function: str) -> None:
    assert completed(command, function, "check", "--device", "bm1684", ":", "em") == ["emulated"]
    assert completed(command, function, "check", "--device", "bm1684", ":") == ["emulated", "simulated"]
    assert completed(command, function, "check", "--device", "torch,bm1684", ":", "e", "--lim")[-1:] == ["--limit"]


def typed(command: Path, function: str, keys: str) -> str:
    """Text that an interactive bash prints after these keys."""
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
        os.execvpe("bash", ["bash", "--norc", "--noprofile"], environment)
    try:
        os.write(terminal, f"{function}\n".encode())
        os.write(terminal, f"bind 'set enable-bracketed-paste off'; {keys}".encode())
        shown, patience = b"", time.monotonic() + 60
        while b"<END>" not in shown and time.monotonic() < patience:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65536)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown.decode()


def test_key_in_a_real_shell_completes_a_device_with_a_colon(command: Path, function: str) -> None:
    # Completed, then turned into an argument of printf by Ctrl-A.
    shown = typed(
        command, function, f"\n{PROGRAM} check --device bm1684:em\t--x\x01printf '<%s>' \nprintf '<%s>' END\n"
    )
    assert "<bm1684:emulated>" in shown.replace(" ", "")


@given(st.lists(st.text("ab-:", min_size=1, max_size=6).filter(lambda word: word.strip(":")), min_size=1, max_size=5))
def test_words_are_joined_as_they_were_typed(line: list[str]) -> None:
    """The words of a line are split at colons as bash splits them, and joined again."""
    line = [word.strip(":") for word in line]
    split, places = [], []
    for number, word in enumerate(line):
        parts = [part for piece in word.split(":") for part in (piece, ":")][:-1]
        kept = [part for part in parts if part]
        split += kept
        places += [number] * len(kept)
    words, current = joined(split, len(split) - 1)
    assert "".join(words) == "".join(line)
    assert words == line
    assert current == places[-1]


def test_lists_of_devices_leave_out_what_is_there_and_cards_may_be_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert devices("torch,") == [f"torch,{name}" for name in device_names() if name != "torch"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("mine.toml", "mine.txt", "folder/a.toml", "a\x1b[2J.toml"):
        (tmp_path / name).touch()
    assert models("") == [*model_card_names(), "mine.toml"]
    assert models("folder/") == ["folder/a.toml"]
    assert models(f"{tmp_path}/fol") == [f"{tmp_path}/folder/"]
    assert models("none/") == []


def test_module_shows_no_completion_and_the_command_does(command: Path) -> None:
    assert "completion" not in run("--help")[1]
    ended = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert "--show-completion" in ended.stdout
    assert f"Usage: {PROGRAM} " in ended.stdout


def test_command_ends_as_the_module_does(command: Path, tmp_path: Path) -> None:
    ended = subprocess.run([command, "non-such"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (4, "")
    assert f"remedy: see '{PROGRAM} --help'" in ended.stderr
    ended = subprocess.run([command, "history", "show", tmp_path / "none"], capture_output=True, text=True)
    assert ended.returncode == 4
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not in_checkout(), reason="pyproject.toml is in a checkout only")
def test_script_of_the_distribution_is_the_command() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint(PROGRAM, scripts[PROGRAM], "console_scripts").load().__name__ == "run_command"
