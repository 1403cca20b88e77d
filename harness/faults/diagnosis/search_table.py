"""Constants of the diagnosis, each with its reason: ``search.toml``."""

from __future__ import annotations

from pathlib import Path

from harness.cards.schema import Record, parse, read_toml

FILE = Path(__file__).parent / "search.toml"


class Entry(Record):
    """One constant of the table as it stands in the file."""

    value: float
    reason: str
    since: str


class Costs(Record):
    """Units of work of one evaluation, by class, and the units that a search may spend."""

    arithmetic: int
    network: int
    faulty_network: int
    budget: int
    budget_again: int
    kept: int


class Distances(Record):
    """Measurement of the distance between a prediction and the evidence."""

    cap: float
    unmatched: float


class Thresholds(Record):
    """Distances at which a fault counts as an explanation."""

    explained: float
    removed: float
    quiet: float
    sure: float
    few: float


class Confidences(Record):
    """Confidence of an answer, and what is told of it."""

    highest: float
    precision_alone: float
    loss_by_distance: float
    loss_by_fault: float
    loss_by_parameter: float
    rival_ratio: float
    rival_distance: float
    believed: float
    shown: int


class Pairs(Record):
    """Order and number of the pairs of faults that are tried."""

    params_in_pairs: int
    worse_of_two: float
    promising: int
    most: int
    after_first: int
    joint_first_pairs: int
    joint_first_rounds: int
    joint_last_pairs: int
    joint_last_rounds: int


class Fits(Record):
    """Search for the parameters of one fault."""

    values: int
    step: float
    rounds: int
    patience: int
    starts: int
    enough: float
    smallest: float
    damping: float
    damping_up: float
    damping_down: float
    steps: int


class SearchTable(Record):
    """All constants of the diagnosis."""

    cost: Costs
    distance: Distances
    threshold: Thresholds
    confidence: Confidences
    pairs: Pairs
    fit: Fits


def load_search_table(file: Path = FILE) -> SearchTable:
    """Read the table.

    Raises:
        HarnessError: A constant is missing, unknown, or has no reason.
    """
    sections = read_toml(file)
    for entries in sections.values():
        for entry in entries.values():
            parse(Entry, entry, file)
    values = {name: {key: one["value"] for key, one in entries.items()} for name, entries in sections.items()}
    return parse(SearchTable, values, file)


TABLE = load_search_table()
