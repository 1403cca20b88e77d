"""Damage to the values of JSON and TOML: at every position, what nobody would write there."""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

Place = tuple[str | int, ...]

SHOWN_ITEMS = 3
"""Entries of a list that are looked into: its others are alike."""


class Raw(str):
    """Text that stands in the file as it is."""


SCALARS: tuple[Any, ...] = (
    True, False, 0, 1, -1, 2, 65, 3_200_000, 2**31, 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), 0.0, -0.0, 0.5, 1.5,
    -1e-9, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"), Raw("9" * 5000), "", " ", "0", "nan",
    "x" * 5000, "*",
    "../../x", "/etc/passwd", "$(touch canary)", "a\0b", "\x1b[31mred", "tiny\nverdict: conforms", "[/red]",
    "\u202eabc", "é" * 300, "2026-01-01", "9999-12-31", "fp32", [], [[]], {}, [{}], [0], [1, 2, 3], ["x"], {"a": 1},
    [0] * 5000,
)  # fmt: skip
OF_JSON: tuple[Any, ...] = (
    None, [None], Raw("1e400"), Raw("-1e400"), Raw("01"), Raw('"\\ud800"'), Raw('"\\u0000"'), Raw("[" * 100_000),
    Raw("[" * 500 + "]" * 500), Raw('{"a":' * 100_000), Raw('{"a": 1, "a": 2}'), Raw("1,"), Raw("//"),
)  # fmt: skip
OF_TOML: tuple[Any, ...] = (
    Raw("2026-01-01"), Raw("07:32:00"), Raw("2026-01-01T00:00:00Z"), Raw("[" * 100_000), Raw("[" * 300 + "]" * 300),
    Raw("{a = " * 3000), Raw("0x10"), Raw("1_000"), Raw("+1"), Raw("01"), Raw("{a = 1, a = 2}"), Raw('"\\ud800"'),
    Raw('"""\na\nb"""'), Raw("'[[expectation]]'"), Raw("1e400"), Raw("'''\n[[expectation]]\n'''"),
)  # fmt: skip


def change_json(random: Random, source: Path, target: Path) -> str:
    """Change a JSON file at one position or a few."""
    content, said = _changed(random, json.loads(source.read_text(encoding="utf-8")), (*SCALARS, *OF_JSON))
    target.write_text(json_text(content), encoding="utf-8", errors="surrogatepass")
    return said


def change_part(random: Random, source: Path, target: Path) -> str:
    """Change what the part of a run says of itself, at one position or a few."""
    with np.load(source) as saved:
        arrays: dict[str, Any] = {name: saved[name] for name in saved.files}
    content, said = _changed(random, json.loads(arrays["about"].tobytes()), (*SCALARS, *OF_JSON))
    text = json_text(content).encode(errors="surrogatepass")
    with target.open("wb") as file:
        np.savez(file, **{**arrays, "about": np.frombuffer(text or b" ", np.uint8)})
    return said


def change_toml(random: Random, source: Path, target: Path) -> str:
    """Change a TOML file at one position or a few."""
    content, said = _changed(random, tomllib.loads(source.read_text(encoding="utf-8")), (*SCALARS, *OF_TOML))
    text = _toml_tables(content) if isinstance(content, dict) else _toml_value(content)
    target.write_text(text, encoding="utf-8", errors="surrogatepass")
    return said


def positions(content: Any) -> Iterator[Place]:  # noqa: ANN401 - of any type
    """Every position of nested values, the whole of them first."""
    yield ()
    if isinstance(content, dict):
        inner = list(content.items())
    else:
        inner = list(enumerate(content))[:SHOWN_ITEMS] if isinstance(content, list) else []
    for key, value in inner:
        yield from ((key, *place) for place in positions(value))


def _changed(random: Random, content: Any, values: tuple[Any, ...]) -> tuple[Any, str]:  # noqa: ANN401
    said = []
    for _ in range(random.choice((1, 1, 1, 1, 2, 4))):
        place = random.choice(list(positions(content)))
        content, what = _change(random, content, place, values)
        said.append(f"{what} at {'.'.join(map(str, place)) or 'the top'}"[:100])
    return content, "; ".join(said)


def _change(random: Random, content: Any, place: Place, values: tuple[Any, ...]) -> tuple[Any, str]:  # noqa: ANN401
    content = copy.deepcopy(content)
    if not place:
        value = random.choice(values) if random.random() < 0.3 else content
        return (value, f"{value!r}") if value is not content else (content, "nothing")
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    last, kind = place[-1], random.choice(("value", "value", "value", "gone", "more", "renamed"))
    if kind == "gone":
        del holder[last]
    elif kind == "more" and isinstance(holder, list):
        holder.insert(int(last), copy.deepcopy(holder[int(last)]))
    elif kind == "more":
        holder[random.choice((f"{last}s", "x" * 300, "", "a.b", "\x1b[2J"))] = random.choice(values)
    elif kind == "renamed" and isinstance(holder, dict):
        holder[random.choice((str(last).upper(), f" {last}", "é"))] = holder.pop(last)
    else:
        holder[last] = random.choice(values)
        kind = repr(holder[last])[:60]
    return content, kind


def json_text(content: Any) -> str:  # noqa: ANN401
    """Write JSON, `Raw` text as it is."""
    raw: list[str] = []

    def marked(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Raw):
            raw.append(str(value))
            return f"@raw{len(raw) - 1}@"
        if isinstance(value, dict):
            return {key: marked(inner) for key, inner in value.items()}
        return [marked(inner) for inner in value] if isinstance(value, list) else value

    return re.sub(r'"@raw(\d+)@"', lambda match: raw[int(match[1])], json.dumps(marked(content)))


def _toml_tables(content: dict[str, Any], name: str = "") -> str:
    """Write TOML with headers of tables."""
    plain = {key: value for key, value in content.items() if not _is_table(value)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items()]
    for key, value in content.items():
        full = f"{name}.{_toml_key(key)}" if name else _toml_key(key)
        if _is_table(value):
            for one in value if isinstance(value, list) else [value]:
                header = f"[[{full}]]" if isinstance(value, list) else f"[{full}]"
                lines += ["", header, _toml_tables(one, full)]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) for one in value)
    return isinstance(value, dict)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml_value(inner)}" for key, inner in value.items()) + "}"
    return str(value)
