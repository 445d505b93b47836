"""Build a master: normalise it, run it from top to bottom, store what came out.

Two builds of the same lesson give the same bytes as far as its outputs do: no times, no versions,
ids from contents, figures of limited size. Lessons are run in an empty folder.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from minids.errors import UserError
from minids.lab import master as masters

LARGEST_IMAGE = 100_000  # bytes
LARGEST_TEXT = 20_000  # characters of one output
LARGEST_HTML = 100_000  # coloured source: five times its text
COLAB_CELL = """\
import sys

if "google.colab" in sys.modules:  # elsewhere minids is installed already
    import subprocess

    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "minids"], check=True)"""
UNSTABLE_MIME = "application/vnd.jupyter.widget-view+json"  # the figure beside it is what is kept


def execute(path: Path, *, timeout: float = 300) -> list[str]:
    """Normalise and run a master, store its outputs in place → warnings.

    timeout: seconds per cell. Raises UserError, nothing written, if a cell fails or a figure is
    too large.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = normalised(path)
    node: Any = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as place:
        client = NotebookClient(
            node,
            kernel_name="python3",
            timeout=timeout,
            record_timing=False,
            store_widget_state=False,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": place}},
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            number = max(client.code_cells_executed, 1)
            last = str(getattr(error, "evalue", "") or error).strip().splitlines()
            kind = getattr(error, "ename", "") or type(error).__name__
            what = f"code cell {number} raised {kind}: {last[-1] if last else ''}"
            raise UserError(path.name, what, code=1) from error
    warnings = tidy_outputs(path.name, node)
    store(path, node)
    return warnings


def normalised(path: Path) -> dict[str, Any]:
    """A master with the cell for Colab, complete nbgrader metadata and ids from contents."""
    notebook = masters.load(path)
    cells = notebook["cells"]
    code = [place for place, cell in enumerate(cells) if cell["cell_type"] == "code"]
    if not code or masters.source(cells[code[0]]) != COLAB_CELL:
        first = code[0] if code else len(cells)
        cells.insert(first, {"cell_type": "code", "metadata": {}, "source": COLAB_CELL})
    used: set[str] = set()
    for cell in cells:
        cell["source"] = masters.source(cell).rstrip("\n")
        complete_metadata(cell)
        cell["id"] = unused(cell_id(cell), used)
        if cell["cell_type"] == "code":
            cell.setdefault("outputs", [])
            cell.setdefault("execution_count", None)
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
    notebook["metadata"] = {"kernelspec": masters.KERNEL, "language_info": {"name": "python"}}
    notebook["nbformat_minor"] = 5
    found = list(masters.problems(path.stem, notebook))
    if found:
        raise UserError(path.name, " · ".join(found), hint="minids/README.md says what a master is")
    return notebook


def complete_metadata(cell: dict[str, Any]) -> None:
    """Keep what means something; fill in what follows from the name of an exercise or check."""
    kept = {k: cell["metadata"][k] for k in ("nbgrader", "tags") if cell["metadata"].get(k)}
    name = masters.grade_id(cell)
    if name and masters.exercise_of(name):
        is_check = name.startswith("check-")
        settings = {
            "grade": is_check,
            "grade_id": name,
            "locked": is_check,
            "schema_version": 3,
            "solution": not is_check,
            "task": False,
        }
        if is_check:
            settings["points"] = kept["nbgrader"].get("points", 1)
        kept["nbgrader"] = settings
    cell["metadata"] = kept


def cell_id(cell: dict[str, Any]) -> str:
    """An id that stays as long as the cell says the same."""
    return masters.grade_id(cell) or masters.digest(cell["cell_type"], cell["source"])[:8]


def unused(wanted: str, used: set[str]) -> str:
    """The id, numbered if an equal cell came before."""
    name, copy = wanted, 1
    while name in used:
        copy += 1
        name = f"{wanted}-{copy}"
    used.add(name)
    return name


def tidy_outputs(name: str, node: Any) -> list[str]:
    """Remove what differs between two runs → what a reader should not see, a line each."""
    node.metadata = {"kernelspec": masters.KERNEL, "language_info": {"name": "python"}}
    warnings = []
    for place, cell in enumerate(node.cells):
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            data = output.get("data", {})
            data.pop(UNSTABLE_MIME, None)
            for mime, value in data.items():
                if isinstance(value, str):
                    data[mime] = without_addresses(value)
                size = len(base64.b64decode(value)) if mime == "image/png" else len(str(value))
                largest = LARGEST_IMAGE if mime.startswith("image/") else LARGEST_TEXT
                largest = LARGEST_HTML if mime == "text/html" else largest
                if size > largest:
                    what = f"cell {place} shows {size:,} bytes of {mime}"
                    raise UserError(name, what, f"up to {largest:,}", code=1)
            if "text" in output:
                output["text"] = without_addresses(output["text"])
                if len(output["text"]) > LARGEST_TEXT:
                    what = f"cell {place} prints {len(output['text']):,} characters"
                    raise UserError(name, what, f"up to {LARGEST_TEXT:,}", code=1)
            if output.get("name") == "stderr":
                warnings.append(f"cell {place} writes to stderr: {output['text'].strip()[:100]}")
        cell.outputs = [o for o in cell.outputs if "data" not in o or o["data"]]
    return warnings


def without_addresses(text: str) -> str:
    """Objects are at another place in each run."""
    return re.sub(r" at 0x[0-9a-f]{6,}", " at 0x…", text)


def store(path: Path, notebook: Any) -> None:
    """Write as nbformat does, all or nothing."""
    import nbformat

    text = nbformat.writes(nbformat.from_dict(notebook)) + "\n"
    beside = path.with_suffix(".ipynb.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def main(argv: list[str]) -> int | str:
    """`python -m minids.lab.build NN …` → exit status, or the error for SystemExit."""
    argv = argv[1:] if argv[:1] == ["build"] else argv
    parser = argparse.ArgumentParser(prog="python -m minids.lab.build", description=__doc__)
    parser.add_argument("lessons", nargs="+", help="numbers, or paths of masters")
    parser.add_argument("--no-run", action="store_true", help="normalise, keep the outputs")
    args = parser.parse_args(argv)
    try:
        for lesson in args.lessons:
            known = masters.paths()
            path = known.get(lesson.zfill(2), Path(lesson))
            warnings = [] if args.no_run else execute(path)
            if args.no_run:
                store(path, normalised(path))
            sys.stderr.write("".join(f"{path.name}: {line}\n" for line in warnings))
            sys.stdout.write(f"{path.name}: built, {path.stat().st_size / 1e3:.0f} kB\n")
    except UserError as error:
        return f"{error.line()}" + (f"\nhint: {error.hint}" if error.hint else "")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
