"""Build step that puts the folders `fixtures` and `reports` of the checkout into the wheel, named in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools.command.build_py import build_py

FOLDERS = ("fixtures", "reports")


class BuildWithData(build_py):
    """Build the packages, with each data folder as a package below ``harness._data``."""

    def finalize_options(self) -> None:
        """Declare every folder that has files, for the wheel and for the sdist."""
        distribution = self.distribution
        packages, places = list(distribution.packages or ()), dict(distribution.package_dir or {})
        data = dict(distribution.package_data or {})
        for top in FOLDERS:
            for folder in sorted({file.parent for file in Path(top).rglob("*") if file.is_file()}):
                name = ".".join(("harness", "_data", *folder.parts))
                places[name] = folder.as_posix()
                data[name] = ["*"]
                packages += [] if name in packages else [name]
        distribution.packages, distribution.package_dir, distribution.package_data = packages, places, data
        super().finalize_options()
