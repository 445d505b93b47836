"""Write the report of a run again from the files in its folder."""

from __future__ import annotations

import argparse

from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids report`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder, or its name under runs/")


def run(args: argparse.Namespace) -> int:
    """Write and say where."""
    from minids.report import write_report
    from minids.runs import find_run

    path = write_report(find_run(args.run_folder))
    if args.json:
        show.emit_json({"report": str(path)})
    else:
        print(path)
    return 0
