"""Score of the catalogue, collected from all processes and printed at the end of the run."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.faults import STAGES

KEY = "catalogue_score"

Entry = dict[str, Any]


def entries_of(properties: Iterable[Iterable[tuple[str, object]]]) -> list[Entry]:
    """Collect the entries from the properties of every report."""
    return [json.loads(str(value)) for one in properties for name, value in one if name == KEY]


def print_scorecard(entries: list[Entry]) -> str:
    """Print the table of what was caught and the score of the diagnosis; empty if nothing was measured."""
    kinds: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        kinds[entry["kind"]].append(entry)
    if not kinds:
        return ""
    text = io.StringIO()
    console = Console(file=text, width=110)
    if kinds["adequacy"]:
        console.print(_adequacy(kinds["adequacy"]))
    for line in [*_alarms(kinds["right"]), *_diagnosis(kinds), *_training(kinds)]:
        console.print(line, highlight=False)
    return text.getvalue()


def _adequacy(entries: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, title="faults caught in their own stage", title_justify="left")
    for heading in ("stage", "faults", "ports", "caught", "applied", "identical to a right port"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    rows = [(stage, [e for e in entries if e["stage"] == stage]) for stage in STAGES]
    for stage, some in [*rows, ("all", entries)]:
        if some:
            applied = [e for e in some if not e["invisible"]]
            caught = sum(e["caught"] for e in applied)
            numbers = (len({e["fault"] for e in some}), len(some), caught, len(applied), len(some) - len(applied))
            table.add_row(stage, *map(str, numbers))
    return table


def _alarms(entries: list[Entry]) -> list[str]:
    alarms = sum(entry["alarm"] for entry in entries)
    return [f"right ports: {alarms} false alarms in {len(entries)}"] if entries else []


def _diagnosis(kinds: dict[str, list[Entry]]) -> list[str]:
    lines = []
    titles = {
        "single": "diagnosis, one fault: named first",
        "pair": "diagnosis, two faults: among the first three",
        "unknown": "diagnosis, the fault left out of the catalogue: no false name",
        "nothing": "diagnosis of right ports: no name",
        "hand": "diagnosis of ports spoilt by hand: named first",
    }
    for kind, title in titles.items():
        if kinds[kind]:
            lines.append(f"{title}: {_share(kinds[kind])}")
    answers = [e for kind in titles for e in kinds[kind] if e.get("confidence", 0) >= 0.9]
    if answers:
        right = sum(bool(e["true_answer"]) for e in answers)
        said = f"of {len(answers)} answers given at a confidence of 0.9 or more, {right} are right"
        lines.append(f"{said} ({right / len(answers):.1%})")
    return lines


def _training(kinds: dict[str, list[Entry]]) -> list[str]:
    """Say how many mistakes of a training were caught and named, by precision or way, and which were not."""
    lines = []
    for how in dict.fromkeys(entry["how"] for entry in kinds["training"]):
        some = [entry for entry in kinds["training"] if entry["how"] == how]
        caught, first = (
            sum(map(bool, found)) for found in zip(*((e["caught"], e["place"] == 0) for e in some), strict=True)
        )
        among = sum(entry["place"] is not None for entry in some)
        lines.append(f"training, {how}: {caught} of {len(some)} caught, {first} named first, {among} named at all")
        unseen = [entry["fault"] for entry in some if not entry["caught"]]
        lines += [f"  not visible: {', '.join(unseen)}"] if unseen else []
        lines += [
            f"  {entry['fault']}: named {', '.join(entry['answers'][:4]) or 'nothing'}"
            for entry in some
            if entry["caught"] and entry["place"] != 0
        ]
    if kinds["training-right"]:
        alarms = sum(entry["alarm"] for entry in kinds["training-right"])
        lines.append(f"right trainings: {alarms} with a false alarm of {len(kinds['training-right'])} sets of weights")
    return lines


def _share(entries: list[Entry]) -> str:
    right = sum(bool(e["right"]) for e in entries)
    return f"{right} of {len(entries)} ({right / len(entries):.1%})"
