"""The instructor's release: a course that nbgrader generates, collects and grades.

Each check gets a hidden test that fails, with the mistake's name, where the answer is wrong;
nbgrader takes it out for students and puts it back when it grades.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids.lab import folder
from minids.lab import master as masters
from minids.lab.master import Master


def release(lessons: Sequence[Master], to: Path) -> list[Path]:
    """Write nbgrader_config.py and source/NN-name/NN-name.ipynb → the files."""
    folder.check(to)
    if to.is_dir() and any(to.iterdir()):
        raise UserError(str(to), "is not empty", "a new or empty folder")
    written = {to / "nbgrader_config.py": CONFIG}
    for one in lessons:
        notebook = json.loads(masters.written(one.notebook))
        for cell in notebook["cells"]:
            name = masters.grade_id(cell)
            if name.startswith("check-"):
                cell["source"] = masters.source(cell) + "\n" + hidden_test(cell)
                cell["outputs"], cell["execution_count"] = [], None
        written[to / "source" / one.name / f"{one.name}.ipynb"] = masters.written(notebook)
    for path, text in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder.refused(path, error) from error
        folder.write_new(path, text)
    return list(written)


def hidden_test(cell: dict[str, Any]) -> str:
    """Lines that raise unless the answer of a check is right."""
    call = masters.source(cell)
    start = call.index("check(") + len("check(")
    arguments = call[start : call.index(")", start)]
    lines = ("from minids.lab.strict import must_be_right", f"must_be_right({arguments})")
    return "\n".join(("### BEGIN HIDDEN TESTS", *lines, "### END HIDDEN TESTS"))


CONFIG = f'''\
"""nbgrader's settings for lessons of minids."""

c = get_config()  # noqa: F821 (nbgrader provides it)
c.CourseDirectory.course_id = "minids"
c.ClearSolutions.code_stub = {{"python": {masters.BLANK!r}}}
c.ExecutePreprocessor.timeout = 120
'''
