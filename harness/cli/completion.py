"""Completion of the command line in a shell: names for options that take one, and words that bash splits.

The names are asked for on every press of a key, so nothing here loads PyTorch or ONNX Runtime.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

PROGRAM = "centernet-conformance"
"""The command that shells can complete; ``python -m harness`` is three words, and they cannot."""
ASKED_BY_BASH = ("_CENTERNET_CONFORMANCE_COMPLETE", "complete_bash")
"""Variable and value by which the function in bash asks."""


def models(incomplete: str) -> list[str]:
    """Return the names of the model cards, and files of cards."""
    from harness.cards import model_card_names

    folder, _, beginning = incomplete.rpartition("/")
    inside = Path(folder or ("/" if incomplete.startswith("/") else "."))
    return _matching(model_card_names(), incomplete) + sorted(_cards_in(inside, folder, beginning))


def _cards_in(inside: Path, folder: str, beginning: str) -> Iterator[str]:
    """Yield the cards in a folder, and the folders there, in which there may be more."""
    try:
        found = list(os.scandir(inside))
    except OSError:
        return
    above = f"{folder}/" if folder or inside.is_absolute() else ""
    for one in found:
        is_card = one.name.endswith(".toml") and one.is_file()
        if one.name.startswith(beginning) and one.name.isprintable() and (is_card or (folder and one.is_dir())):
            yield f"{above}{one.name}" + ("" if is_card else "/")


def device(incomplete: str) -> list[str]:
    """Return the names of the devices that are installed."""
    from harness.devices.registry import device_names

    return _matching(device_names(), incomplete)


def devices(incomplete: str) -> list[str]:
    """Return a list of devices with one more, which is not in it."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in device(last) if name not in taken]


def precisions(incomplete: str) -> list[str]:
    """Return the names of the precisions."""
    from harness.cards.tolerances import precision_names

    return _matching(precision_names(), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


@contextmanager
def whole_words() -> Iterator[None]:
    """Join words that bash splits at colons, as in ``bm1684:emulated``, and answer with what follows the last colon.

    Bash replaces only that part of the word. What is printed in the block is changed so; without a request of bash,
    nothing is.
    """
    variable, value = ASKED_BY_BASH
    words, place = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if os.environ.get(variable) != value or not place.isdecimal() or int(place) >= len(words):
        yield
        return
    words, current = joined(words, int(place))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(words), str(current)
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        known = words[current][: words[current].rfind(":") + 1]
        for line in answer.getvalue().splitlines():
            print(line.removeprefix(known))


def joined(words: Sequence[str], place: int) -> tuple[list[str], int]:
    """Join the words around colons.

    Args:
        words: As bash splits the line.
        place: Of the word that is completed.

    Returns:
        The words as they stand in the line, and the place of that word among them.
    """
    found: list[str] = []
    current, glued = place, False
    for number, word in enumerate(words):
        is_colon = bool(word) and not word.strip(":")
        if found and (glued or is_colon):
            found[-1] += word
        else:
            found.append(word)
        glued = is_colon
        if number == place:
            current = len(found) - 1
    return found, current
