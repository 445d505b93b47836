"""What comes out of grading: a table, JUnit XML, a page per student, a report on the class.

Everything a student wrote is data: control characters, XML and spreadsheet formulas do nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree as xml

from minids.lab import exercises
from minids.lab.grade import WHOLE, Row

COLUMNS = ("student", "lesson", "exercise", "points", "possible", "verdict", "mistake", "seconds")
MORE = ("file", "says", "notes")
WORDS = {
    "right": "right",
    "mistake": "a known mistake",
    "different": "wrong",
    "blank": "not attempted",
    "error": "stopped with an error",
    "time": "stopped: time",
    "memory": "stopped: memory",
    "output": "stopped: output",
    "processes": "stopped: processes",
    "died": "the process ended",
    "garbled": "unreadable results",
    "signature": "other parameters",
    "callable": "no function",
    "missing": "not defined",
    "tampered": "cells deleted, doubled or moved",
    "library": "the library's own",
    "unreadable": "unreadable file",
    "unknown": "unknown lesson",
    "interrupted": "interrupted",
}


def as_csv(rows: Iterable[Row]) -> str:
    """One line per submission and exercise."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *MORE))
    for row in rows:
        fields = row._asdict() | {"notes": " · ".join(row.notes)}
        writer.writerow([harmless(fields[name]) for name in (*COLUMNS, *MORE)])
    return text.getvalue()


def harmless(value: Any) -> Any:
    """A spreadsheet takes a text that begins like a formula for one."""
    if not isinstance(value, str):
        return value
    text = clean(value).replace("\n", " ")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def clean(text: str) -> str:
    """Without characters that XML and terminals must not see."""
    return re.sub(r"[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)


def as_junit(rows: Sequence[Row]) -> str:
    """A test suite per submission, a test case per exercise."""
    suites = xml.Element("testsuites", name="minids grade")
    for (student, file), group in grouped(rows).items():
        failed = sum(row.verdict != "right" for row in group)
        suite = xml.SubElement(
            suites,
            "testsuite",
            name=clean(f"{student} {file}"),
            tests=str(len(group)),
            failures=str(failed),
            errors="0",
            skipped="0",
            time=f"{sum(row.seconds for row in group):.2f}",
        )
        for row in group:
            case = xml.SubElement(
                suite,
                "testcase",
                classname=clean(student),
                name=row.exercise,
                time=f"{row.seconds:.2f}",
            )
            if row.verdict != "right":
                message = clean(row.mistake or row.says)
                failure = xml.SubElement(case, "failure", type=row.verdict, message=message)
                failure.text = clean("\n".join((row.says, *row.details)))
    xml.indent(suites)
    return xml.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows by submission."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.student, row.file].append(row)
    return found


def pages(rows: Iterable[Row]) -> dict[str, str]:
    """{file name: Markdown} with what each student should read. No notes, no other student."""
    by_student: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_student[row.student].append(row)
    found: dict[str, str] = {}
    for student, mine in by_student.items():
        bare = re.sub(r"[^\w.-]+", "_", student).strip("._")[:80] or "student"
        name, copy = bare, 1
        while f"{name}.md" in found:
            copy += 1
            name = f"{bare}-{copy}"
        found[f"{name}.md"] = page(student, mine)
    return found


def page(student: str, rows: Sequence[Row]) -> str:
    """One student's page."""
    got, possible = sum(row.points for row in rows), sum(row.possible for row in rows)
    lines = [f"# {inline(student)}", "", f"**{got:g} of {possible:g} points**", ""]
    for row in rows:
        title = title_of(row.exercise)
        mark = "✓" if row.verdict == "right" else "✗"
        score = f" · {row.points:g} of {row.possible:g}" if row.possible else ""
        lines += [f"## {mark} {row.exercise} {title}{score}", ""]
        lines += [
            f"**{inline(row.mistake)}.** {inline(row.says)}" if row.mistake else inline(row.says)
        ]
        lines += ["", *fenced(row.details), *hint_of(row)]
    return "\n".join(lines).rstrip() + "\n"


def title_of(exercise: str) -> str:
    """What the exercise is about."""
    return "" if exercise == WHOLE else exercises.find(exercise).title


def hint_of(row: Row) -> list[str]:
    """Where to look, for whoever tried."""
    if row.verdict not in ("mistake", "different") or row.exercise == WHOLE:
        return []
    return [f"Where to look: {exercises.find(row.exercise).hints[0]}", ""]


def inline(text: str) -> str:
    """A text inside a line of Markdown."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", clean(text).replace("\n", " "))


def fenced(lines: Sequence[str]) -> list[str]:
    """Lines as they are, in a fence longer than any inside."""
    if not lines:
        return []
    text = clean("\n".join(lines))
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence, ""]


def class_report(rows: Sequence[Row]) -> dict[str, Any]:
    """How often each exercise was right, and which misconceptions occurred how often."""
    found: list[dict[str, Any]] = []
    for exercise in sorted({row.exercise for row in rows} - {WHOLE}):
        mine = [row for row in rows if row.exercise == exercise]
        verdicts = Counter(row.verdict for row in mine)
        found.append(
            {
                "exercise": exercise,
                "title": title_of(exercise),
                "submissions": len(mine),
                "right": verdicts["right"],
                "mistakes": dict(Counter(r.mistake for r in mine if r.mistake).most_common()),
                "other": {
                    kind: n
                    for kind, n in verdicts.most_common()
                    if kind not in ("right", "mistake")
                },
            }
        )
    return {
        "students": len({row.student for row in rows}),
        "submissions": len(grouped(rows)),
        "exercises": found,
        "notebooks": dict(Counter(r.verdict for r in rows if r.exercise == WHOLE).most_common()),
    }


def as_markdown(report: dict[str, Any]) -> str:
    """The class report as a page."""
    lines = ["# What the class got right, and where it went wrong", ""]
    lines += [f"{report['students']} students, {report['submissions']} notebooks", ""]
    for one in report["exercises"]:
        lines += [f"## {one['exercise']} {one['title']}", ""]
        lines += [f"right: {one['right']} of {one['submissions']}", ""]
        found = one["mistakes"] | {WORDS.get(kind, kind): n for kind, n in one["other"].items()}
        if found:
            lines += ["| times | what |", "|---:|---|"]
            lines += [f"| {n} | {inline(what)} |" for what, n in found.items()] + [""]
    if report["notebooks"]:
        lines += ["## Notebooks with trouble", ""]
        lines += [f"- {WORDS.get(kind, kind)}: {n}" for kind, n in report["notebooks"].items()]
    return "\n".join(lines).rstrip() + "\n"
