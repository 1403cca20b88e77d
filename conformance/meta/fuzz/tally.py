"""The table of bad inputs: how many were tried of each format, and how they ended."""

import datetime
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from conformance.meta.fuzz.formats import FORMATS
from conformance.meta.fuzz.trial import ACCEPTED, LAST_RESORT, REFUSED, SEED, Result

KEY = "fuzz_results"
COLUMNS = (
    "format",
    "mutants",
    "an error that names file, cause and remedy",
    "accepted as harmless",
    "last resort",
    "other",
)
ORIGIN = "measured {date}, seed {seed}: `CENTERNET_CONFORMANCE_BAD_INPUT=FILE pytest -m fuzz`"


def pack(results: Sequence[Result]) -> str:
    """Write the counts of some results as text, which pytest-xdist carries."""
    return json.dumps([[one.format, one.kind] for one in results])


def count(properties: Iterable[Iterable[tuple[str, object]]]) -> dict[str, Counter[str]]:
    """Count the results by format, from the properties of every report."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in FORMATS}
    for one in properties:
        for name, value in one:
            for kind, result in json.loads(str(value)) if name == KEY else ():
                counts[kind][result] += 1
    return counts


def rows(counts: dict[str, Counter[str]]) -> list[list[str | int]]:
    """The rows of the table, the last one their sum."""
    found: list[list[str | int]] = []
    for name, counted in [*counts.items(), ("all", sum(counts.values(), Counter[str]()))]:
        known = [counted[kind] for kind in (REFUSED, ACCEPTED, LAST_RESORT)]
        if counted.total():
            found.append([name, counted.total(), *known, counted.total() - sum(known)])
    return found


def write_table(file: Path, counts: dict[str, Counter[str]]) -> None:
    """Write the table as `harness.report.measured` reads it."""
    origin = ORIGIN.format(date=datetime.date.today().isoformat(), seed=SEED)
    content = {"columns": COLUMNS, "rows": rows(counts), "origin": origin}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
