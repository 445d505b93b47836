"""Grade a folder of workbooks: every submission in a process of its own, with limits.

Accepts notebooks side by side (alice.ipynb), a folder per student, and nbgrader's submitted/.
Students' code runs on this machine as you. Limits and a cut network hold accidents and crude
tricks; it is NO SECURITY SANDBOX. For strangers' code, grade inside a container, from a checkout:

    printf 'FROM python:3.11-slim\\nCOPY . /minids\\nRUN pip install /minids\\n' > Dockerfile
    docker build -t minids .
    docker run --rm --network=none --read-only --tmpfs /tmp --memory=8g --pids-limit=256 \\
        -v "$PWD/handed-in:/in:ro" -v "$PWD/graded:/out" minids \\
        minids grade /in --csv /out/grades.csv --feedback /out/feedback
"""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minids.config import coerce
from minids.errors import UserError
from minids_cli import show

if TYPE_CHECKING:
    from minids.lab.grade import Row

NOT_SAFE = "limits are no security sandbox; minids grade --help shows a container"


def add(parser: argparse.ArgumentParser) -> None:
    """Flags of `minids grade`."""
    parser.add_argument("folder", metavar="FOLDER", help="what the class handed in")
    parser.add_argument("--lesson", metavar="NN", help="all are of this lesson (default: they say)")
    parser.add_argument("--csv", metavar="FILE", help="a line per submission and exercise")
    parser.add_argument("--junit", metavar="FILE", help="the same as JUnit XML")
    parser.add_argument("--feedback", metavar="DIR", help="a Markdown page for each student")
    parser.add_argument("--report", metavar="FILE", help="the class report as Markdown")
    parser.add_argument("--seed", metavar="N", help="of the instances (default: drawn, shown)")
    parser.add_argument("--timeout", metavar="S", default="60", help="per cell and exercise (60)")
    parser.add_argument("--memory", metavar="GB", default="2", help="per submission (2)")
    parser.add_argument("--jobs", metavar="N", help="submissions at once (default: cores, up to 4)")


def run(args: argparse.Namespace) -> int:
    """Check all that was said, then grade."""
    targets = {
        name: target(f"--{name}", getattr(args, name)) for name in ("csv", "junit", "report")
    }
    feedback = feedback_folder(args.feedback)
    timeout = number("--timeout", args.timeout, 1, 3600)
    memory = number("--memory", args.memory, 0.1, 1024)
    cores = os.cpu_count() or 1
    jobs = int(number("--jobs", args.jobs, 1, 64, int)) if args.jobs else min(4, cores)
    seed = (
        int(number("--seed", args.seed, 0, 2**63 - 1, int)) if args.seed else secrets.randbits(32)
    )

    from minids.lab import confine, submission

    found = submission.find(Path(args.folder))
    limits = confine.Limits(step_s=timeout, memory_bytes=int(memory * 1e9))
    for line in confine.missing():
        show.warn(line)
    rows = graded(found, args, seed, limits, jobs)

    from minids.lab import feedback as words

    report = words.class_report(rows)
    texts = {
        "csv": lambda: words.as_csv(rows),
        "junit": lambda: words.as_junit(rows),
        "report": lambda: words.as_markdown(report),
    }
    written = {path: texts[name]() for name, path in targets.items() if path}
    if feedback:
        feedback.mkdir(exist_ok=True)
        written |= {feedback / name: text for name, text in words.pages(rows).items()}
    for path, text in written.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(str(path), f"cannot be written: {error.strerror}", code=1) from error
    if args.json:
        fields = [row._asdict() for row in rows]
        show.emit_json({"seed": seed, "rows": fields, "class": report, "safe": NOT_SAFE})
        return 0
    draw(rows, report)
    files = ", ".join(str(path) for path in targets.values() if path)
    print(
        "\n".join(filter(None, (f"written: {files}" if files else "", f"seed {seed}: {NOT_SAFE}")))
    )
    return 0


def graded(found: list, args: argparse.Namespace, seed: int, limits: Any, jobs: int) -> list[Row]:
    """All rows in the order of the files, with a bar while it goes on."""
    from rich.progress import Progress

    from minids.lab.grade import grade

    rows: list[Row] = []
    with Progress(console=show.console(), disable=args.json or not show.is_live()) as progress:
        task = progress.add_task("grading", total=len(found))
        for some in grade(found, seed=seed, lesson=args.lesson, limits=limits, jobs=jobs):
            rows += some
            progress.update(task, advance=1, description=show.printable(some[0].student)[:30])
    order = {submission.file: i for i, submission in enumerate(found)}
    return sorted(rows, key=lambda row: order[row.file])


def draw(rows: list[Row], report: dict[str, Any]) -> None:
    """Verdicts, then the misconceptions of the class."""
    from minids.lab.feedback import WORDS

    lines = [
        (
            show.printable(row.student)[:30],
            row.exercise,
            f"{row.points:g} / {row.possible:g}" if row.possible else "",
            row.mistake or WORDS.get(row.verdict, row.verdict),
            show.printable(" · ".join((*says, *row.notes)))[:90],
        )
        for row in rows
        for says in [() if row.mistake or row.verdict == "right" else (row.says,)]
    ]
    show.table("", ["student", "exercise", ">points", "verdict", "why"], lines)
    most = [
        (n, one["exercise"], what)
        for one in report["exercises"]
        for what, n in one["mistakes"].items()
    ]
    if most:
        ranked = sorted(most, key=lambda line: -line[0])
        show.table("Misconceptions of the class", [">times", "exercise", "what"], ranked)


def number(flag: str, text: str, low: float, high: float, kind: type = float) -> float:
    """A number in its range."""
    found = coerce(flag, text, kind)
    if not low <= found <= high:
        raise UserError(flag, f"{text} is out of range", f"{low:g} … {high:,.12g}")
    return found


def target(flag: str, text: str | None) -> Path | None:
    """A file that can be written."""
    if text is None:
        return None
    path = Path(text)
    if path.is_dir() or not text:
        raise UserError(flag, f"{text!r} is a folder", "a file to write")
    if not path.parent.is_dir():
        raise UserError(flag, f"the folder {path.parent} does not exist", "an existing folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(flag, f"{text} cannot be written", "a place you may write to")
    return path


def feedback_folder(text: str | None) -> Path | None:
    """A folder that exists or can be made."""
    if text is None:
        return None
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise UserError("--feedback", f"{text} is a file", "a folder")
    at = path if path.exists() else path.parent
    if not at.is_dir() or not os.access(at, os.W_OK):
        raise UserError("--feedback", f"{text} cannot be made", "a place you may write to")
    return path
