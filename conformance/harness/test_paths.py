"""The data is found in a checkout and in an installed wheel."""

from pathlib import Path

import pytest

from harness import paths
from harness.errors import HarnessError


@pytest.mark.checkout
def test_data_of_a_checkout_lies_at_its_top() -> None:
    assert paths.in_checkout()
    assert paths.data_path("fixtures", "golden") == paths.ROOT / "fixtures" / "golden"
    assert paths.data_path("reports", "README.md").is_file()


def test_data_of_a_wheel_lies_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    data = tmp_path / "harness" / "_data" / "reports"
    data.mkdir(parents=True)
    assert not paths.in_checkout()
    assert paths.data_path("reports") == data
    with pytest.raises(HarnessError, match=r"fixtures: no such file or folder\n  remedy: install the package again"):
        paths.data_path("fixtures")
