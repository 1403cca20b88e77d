"""A model card as TOML text, with comments on what was found out and what was not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from harness.cards.model import COCO_CATEGORY_IDS, ModelCard
from harness.cards.schema import PLAIN, is_plain_name
from harness.report.escape import printable

TABLES = ("input", "output", "decode")
LONGEST_NAME = 64


def plain_name(text: str) -> str:
    """Make a name of a card from any text; what no name may hold becomes ``_``."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)[:LONGEST_NAME]
    return name if PLAIN.fullmatch(name) and is_plain_name(name) else "draft"


def card_text(card: ModelCard, comments: Mapping[str, str], heading: str) -> str:
    """Write a card as TOML.

    Args:
        card: The card; its network, int8 and published figures are left out, as a draft has none.
        comments: By field, such as "input.name": what stands behind it.
        heading: What stands at the top, of any number of lines.
    """
    return "\n".join(_lines(card, comments, heading)) + "\n"


def _lines(card: ModelCard, comments: Mapping[str, str], heading: str) -> Iterator[str]:
    yield from (f"# {printable(line)}".rstrip() for line in heading.splitlines())
    top = {"name": card.name, "description": card.description, "source": card.source, "batch_sizes": card.batch_sizes}
    if card.category_ids != COCO_CATEGORY_IDS or "category_ids" in comments:
        top["category_ids"] = card.category_ids
    for key, value in top.items():
        yield from _entry(key, key, value, comments)
    for table in TABLES:
        yield from ("", f"[{table}]")
        for key, value in getattr(card, table).model_dump().items():
            yield from _entry(key, f"{table}.{key}", value, comments)


def _entry(key: str, field: str, value: object, comments: Mapping[str, str]) -> Iterator[str]:
    if field in comments:
        yield f"# {printable(comments[field])}"
    yield f"{key} = {toml_value(value)}"


def toml_value(value: object) -> str:
    """Write a text, number, truth value, or list of these as TOML."""
    if isinstance(value, str):
        # JSON's strings are TOML's, but for surrogates, which `ensure_ascii` would write, and the last of ASCII.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)
