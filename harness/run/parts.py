"""Shards as a user gives them to be merged: all of one run, each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.report.baseline import read_document
from harness.report.part import PartFile, read_part
from harness.run.ingredients import own_code

FIELD = "RESULTS"


def read_parts(documents: Sequence[Path], results: Path | None) -> list[PartFile]:
    """Read the documents of shards with their companions.

    Args:
        documents: In any order.
        results: Where the merged document is to be written, which replaces none of them.

    Returns:
        The parts in the order of their images.

    Raises:
        HarnessError: One is missing, damaged, of no shard or did not end; or they are not all the shards of one run,
            each once; or another version of the suite has run them.
    """
    if results is not None and results.resolve() in {path.resolve() for path in documents}:
        cause, remedy = "it would replace one of the shards", "give another place"
        raise HarnessError(cause, file=results, field="--results", remedy=remedy)
    parts = [read_part(read_document(path, FIELD), path) for path in documents]
    _require_one_run(documents, parts)
    _require_all(documents, parts)
    return sorted(parts, key=lambda part: part.about.index)


def _require_one_run(documents: Sequence[Path], parts: Sequence[PartFile]) -> None:
    first = parts[0].about.run
    for path, part in zip(documents, parts, strict=True):
        other = [name for name, value in part.about.run.items() if first.get(name) != value]
        if other:
            raise HarnessError(
                f"not of the same run as {documents[0].name}: another {', another '.join(other)}",
                file=path,
                field=FIELD,
                remedy="give shards that were run with the same options, model, images and version of the suite",
            )
    if first.get("suite") != own_code():
        raise HarnessError(
            "these shards were run by another version of the suite than this one",
            file=documents[0],
            field=FIELD,
            remedy="merge them with the version that has run them",
        )


def _require_all(documents: Sequence[Path], parts: Sequence[PartFile]) -> None:
    of, counts = parts[0].about.of, Counter(part.about.index for part in parts)
    twice = [index for index, count in counts.items() if count > 1]
    if twice:
        named = [str(path) for path, part in zip(documents, parts, strict=True) if part.about.index == twice[0]]
        cause = f"shard {twice[0]}/{of} is given {counts[twice[0]]} times: {', '.join(named)}"
        raise HarnessError(cause, field=FIELD, remedy="give each shard once")
    missing = [f"{index}/{of}" for index in range(1, of + 1) if index not in counts]
    if missing:
        raise HarnessError(
            f"{len(missing)} of {of} shards are missing: {', '.join(missing)}",
            field=FIELD,
            remedy=f"run them, such as --shard {missing[0]}, and give the documents of all",
        )
