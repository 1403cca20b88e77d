"""Workflows of GitHub Actions: what the README shows is what is there, pinned, with few rights and a time limit."""

import re
from pathlib import Path

import pytest

from conformance.plugin.entry import PACKAGE

pytestmark = pytest.mark.checkout
ROOT = PACKAGE.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_readme_shows_the_gate_as_it_is() -> None:
    text = (ROOT / "conformance" / "README.md").read_text(encoding="utf-8")
    gate = (ROOT / ".github" / "workflows" / "gate.yml").read_text(encoding="utf-8")
    assert f"```yaml\n{gate}```\n" in text


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_is_pinned_may_only_read_and_ends(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one) for one in used), used
    assert re.findall(r"^permissions:\n((?:  .*\n)+)", text, re.MULTILINE) == ["  contents: read\n"]
    assert len(re.findall(r"^    runs-on:", text, re.MULTILINE)) == len(
        re.findall(r"^    timeout-minutes: \d+$", text, re.MULTILINE)
    )
