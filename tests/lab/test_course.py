"""The map of the course says what the lessons hold."""

import re
from pathlib import Path

from minids.lab import course, master

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "lessons/README.md"
LESSONS = [master.read(path) for path in master.paths().values()]


def test_the_map_is_that_of_the_lessons():
    assert PAGE.read_text(encoding="utf-8") == course.text(LESSONS), "python -m minids.lab.course"


def test_every_lesson_asks_a_question_and_every_link_leads_somewhere():
    for lesson in LESSONS:
        assert course.question(lesson).endswith("?"), lesson.name
    links = re.findall(r"\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) > 2 * len(LESSONS)
    assert not [link for link in links if not (PAGE.parent / link).exists()]
