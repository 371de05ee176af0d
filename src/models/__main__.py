"""The command line: `python -m models list`, `python -m models run NAME`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.common.command import listed, ran
from models.common.paper import Settings
from models.papers import PAPERS


def main(arguments: list[str] | None = None) -> int:
    """Zero if every bar is held."""
    parser = argparse.ArgumentParser(prog="python -m models", description="Papers as user programs of ppl.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is")
    run = commands.add_parser("run", help="train, print the table of figures, save the picture")
    run.add_argument("name", choices=sorted(PAPERS))
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--quick", action="store_true", help="a small version, which is not held to the bars")
    run.add_argument("--silent", action="store_true", help="no progress bars")
    run.add_argument("--output", type=Path, default=Path("models-output"), help="where pictures and JSON go")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        print(listed())
        return 0
    settings = Settings(tuple(chosen.seeds), quick=chosen.quick, progress=not chosen.silent)
    return ran(chosen.name, settings, chosen.output)


if __name__ == "__main__":
    sys.exit(main())
