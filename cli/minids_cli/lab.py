"""Open the course: JupyterLab in your folder, with the index open.

Workbooks that are not there yet are written; what is there is never touched. The folder is the one
you are in if it is yours already, else ./minids-lab.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

from minids.errors import UserError
from minids_cli import show


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids lab`."""
    flags(parser)


def flags(parser: argparse.ArgumentParser) -> None:
    """What `minids lab` and `minids lessons open` share."""
    parser.add_argument("--folder", metavar="DIR", help="your folder (default: minids-lab)")
    parser.add_argument("--no-browser", action="store_true", help="start the server only")
    parser.add_argument("--no-lab", action="store_true", help="write, start nothing")
    parser.add_argument("--dry-run", action="store_true", help="show the command, do nothing")


def run(args: argparse.Namespace) -> int:
    """Lay all workbooks, write the index, start."""
    from minids.lab import folder, master

    place = folder.chosen(args.folder)
    folder.check(place)
    lessons, left_out = master.readable()
    for line in left_out:
        show.warn(line)
    if args.dry_run:
        return start(args, place, place / folder.INDEX)
    if not (args.no_lab or args.json):
        installed()
    folder.prepare(place)
    laid = [folder.lay(lesson, place) for lesson in lessons]
    path = folder.index(lessons, place)
    if args.json:
        states = {found.path.name: found.state for found in laid}
        show.emit_json({"folder": str(place), "index": str(path), "workbooks": states})
        return 0
    for found in laid:
        if found.state == "beside":
            print(f"a lesson is newer than your workbook, which is kept: {found.path}")
    return start(args, place, path, ask=False)


def start(args: argparse.Namespace, place: Path, opened: Path, *, ask: bool = True) -> int:
    """Become JupyterLab. ask: only where a person is watching, else say how."""
    words = command(place, opened, browser=not args.no_browser)
    if args.dry_run:
        if args.json:
            show.emit_json({"command": words})
        else:
            print(shlex.join(words))
        return 0
    if args.no_lab or (ask and not show.is_live()):
        print(f"open it with: minids lab --folder {shlex.quote(str(place))}")
        return 0
    installed()
    print(f"JupyterLab in {place}; Ctrl-C twice ends it", flush=True)
    return subprocess.call(words)


def command(place: Path, opened: Path, *, browser: bool) -> list[str]:
    """The words that start JupyterLab in a folder with one of its files open."""
    words = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={place.absolute()}"]
    words.append(f"--LabApp.default_url=/lab/tree/{opened.name}")
    if not browser:
        words.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")  # it refuses root otherwise, as in containers
    return words


def installed() -> None:
    """Raise UserError where JupyterLab is missing."""
    if importlib.util.find_spec("jupyterlab") is None:
        hint = "pip install 'minids[lab]'"
        raise UserError("lab", "JupyterLab is not installed", hint=hint, code=1)
