"""``python -m harness VERB``."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line, or say which package it lacks."""
    try:
        from harness.cli import main
        from harness.cli.standard_streams import take_standard_streams

        take_standard_streams()
        main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        print(f"{error}\n  remedy: run 'pip install -e .' in the checkout", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:  # while the command line itself was loaded
        sys.exit(130)


if __name__ == "__main__":
    run()
