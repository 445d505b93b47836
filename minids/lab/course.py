"""The map of the course, lessons/README.md, from the masters: python -m minids.lab.course

Question, what a student writes and where the library has it are read from the lessons themselves,
so the map cannot promise what no lesson holds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from minids.lab import exercises, master
from minids.lab.master import Master

PARTS = {  # the first lesson of each part
    0: "Foundations",
    7: "DeepSeek's architecture",
    13: "Eight bits",
    16: "Reasoning",
    24: "Many machines, and what it costs",
}
HEAD = """\
# The course

Every lesson asks a question, lets you feel the pain on your own machine, has you write the
mechanism, tells you at once whether it is right and which mistake it is if not, and shows the
effect in a plot. What you write is what the library holds: same names, same shapes.

    minids lab                          # JupyterLab in your own folder, all workbooks, an index
    minids lessons open 07              # one lesson; your work is never overwritten
    minids lessons open 07 --catch-up   # start there, lessons 00 to 06 given
    minids lessons list                 # how far you are

Each takes 45 to 75 minutes of a person and less than two of two CPU cores. The files here are the
masters, solutions and stored outputs included: read them to look, work in your workbook.
"""
TEACHING = """\
## For instructors

    minids lessons release --to course        # a course for nbgrader
    minids grade handed-in --csv grades.csv --junit grades.xml --feedback pages --report class.md

`minids grade` takes what nbgrader collected, a folder per student, or notebooks side by side.
Check cells are put back from the master, and a changed one is reported; instances come from a
seed that you choose or that is drawn (`--seed`), so outputs learned by heart do not help; endless
loops, floods of memory, a notebook that is none, a dead kernel are each a fail with its reason,
and grading goes on. Each student gets a page; the class report says which misconception occurred
how often.

Students' code runs on your machine as you. The limits hold accidents and crude tricks. **They are
no security sandbox.** For strangers' code grade inside a container, from a checkout:

    printf 'FROM python:3.11-slim\\nCOPY . /minids\\nRUN pip install /minids\\n' > Dockerfile
    docker build -t minids .
    docker run --rm --network=none --read-only --tmpfs /tmp --memory=8g --pids-limit=256 \\
        -v "$PWD/handed-in:/in:ro" -v "$PWD/graded:/out" minids \\
        minids grade /in --csv /out/grades.csv --feedback /out/feedback

Lessons of your own: `MINIDS_LESSONS=folder`, masters and `lesson_NN.py` side by side;
`minids/README.md` says what a master is, `python -m minids.lab.mutate NN` which small mistakes
your checks would not see.

This page is made from the lessons: `python -m minids.lab.course`.
"""


def text(lessons: Sequence[Master]) -> str:
    """The page."""
    parts = []
    for one in lessons:
        if (name := PARTS.get(int(one.number))) or not parts:
            parts.append([f"## {name}", "", "| | question | you write | in the library |"])
            parts[-1].append("|---|---|---|---|")
        parts[-1].append(row(one))
    return "\n".join([HEAD, *("\n".join([*part, ""]) for part in parts), TEACHING])


def row(one: Master) -> str:
    """A lesson on one line."""
    number = int(one.number)
    found = exercises.of_lesson(number)
    written = ", ".join(f"`{e.name}`" for e in found)
    homes = dict.fromkeys(e.reference.__module__ for e in found)
    files = [name for name in homes if not name.startswith("minids.lab.exercises")]
    links = ", ".join(f"[{short(name)}](../{name.replace('.', '/')}.py)" for name in files)
    name = f"[{one.number} {one.title.partition(' · ')[2] or one.title}]({one.name}.ipynb)"
    return f"| {name} | {question(one)} | {written} | {links} |"


def short(module: str) -> str:
    """minids.nn.mla → nn/mla"""
    return module.removeprefix("minids.").replace(".", "/")


def question(one: Master) -> str:
    """The bold sentence under the title."""
    found = re.search(r"\*\*(.+?)\*\*", master.source(one.notebook["cells"][0]), re.DOTALL)
    return " ".join(found[1].split()).replace("|", "/") if found else ""


def main() -> int:
    """Write the page beside the masters."""
    lessons = [master.read(path) for path in master.paths().values()]
    path = Path(master.folder(), "README.md")
    path.write_text(text(lessons), encoding="utf-8")
    sys.stdout.write(f"{path.name}: {len(lessons)} lessons\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
