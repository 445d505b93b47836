"""The masters of the two lessons, cell by cell: (kind or grade_id, text)."""

CELLS = {
    "90-tiny": [
        ("markdown", "# Two small things\n\nHow much is twice as much?"),
        ("code", "import torch\n\nfrom minids.lab import check"),
        ("code", "scale = 2.0\nprint(scale)"),
        (
            "ex-90-1",
            '### YOUR CODE 90.1\ndef doubled(x):\n    """Twice x.  x [n] → [n]"""\n'
            "    ### BEGIN SOLUTION\n    return scale * x\n    ### END SOLUTION",
        ),
        ("check-90-1", 'check("90.1", doubled)'),
        ("markdown", "An experiment that takes long. Graders do not run it."),
        ("code", "import time\n\ntime.sleep(600)\nresult = doubled(torch.ones(3))"),
        (
            "ex-90-2",
            '### YOUR CODE 90.2\ndef mean(x):\n    """The mean.  x [n] → []"""\n'
            "    ### BEGIN SOLUTION\n    return doubled(x).mean() / 2\n    ### END SOLUTION",
        ),
        ("check-90-2", 'check("90.2", mean)'),
    ],
    "91-next": [
        ("markdown", "# The third"),
        ("code", "from minids.lab import check"),
        (
            "ex-91-1",
            '### YOUR CODE 91.1\ndef third(a, b, c):\n    """The third."""\n'
            "    ### BEGIN SOLUTION\n    return c\n    ### END SOLUTION",
        ),
        ("check-91-1", 'check("91.1", third)'),
    ],
}
POINTS = {"check-90-2": 2}


def master(name):
    """The notebook of a lesson, as its writer leaves it."""
    cells = []
    for kind, text in CELLS[name]:
        cell = {"cell_type": kind, "metadata": {}, "source": text}
        if kind != "markdown":
            cell |= {"cell_type": "code", "outputs": [], "execution_count": None}
        if kind.startswith(("ex-", "check-")):
            is_check = kind.startswith("check-")
            settings = {"grade_id": kind, "solution": not is_check, "grade": is_check}
            cell["metadata"]["nbgrader"] = settings
            if is_check:
                settings["points"] = POINTS.get(kind, 1)
        if text.startswith("scale"):
            output = {"output_type": "stream", "name": "stdout", "text": "2.0\n"}
            cell["outputs"], cell["execution_count"] = [output], 2
        cells.append(cell)
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
