"""Imports point to lower rows only, and a mechanism reads in one sitting.

The rows are those of the table in minids/README.md: changing the one changes the other.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_READING = 600  # lines of minids that one mechanism pulls in, config and errors not counted
ASSEMBLY = {"block", "mtp", "transformer"}  # put mechanisms together, so they pull in all of them


def rows():
    """{package or module: row} from the README's table."""
    table = (ROOT / "minids/README.md").read_text(encoding="utf-8").split("## Axes")[0]
    found = {}
    for row, names in re.findall(r"^\| (\d) \| ([^|]*) \|", table, re.MULTILINE):
        found |= {name: int(row) for name in re.findall(r"`(\w+)/?`", names)}
    return found


def modules():
    """{dotted name: path} of every module of both packages."""
    paths = [*ROOT.glob("minids/**/*.py"), *ROOT.glob("cli/minids_cli/**/*.py")]
    names = [path.relative_to(ROOT / "cli" if "cli" in path.parts else ROOT) for path in paths]
    return {
        ".".join(n.with_suffix("").parts).removesuffix(".__init__"): p
        for n, p in zip(names, paths, strict=True)
    }


def imports(path):
    """Dotted names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name):
    """The row's owner: `minids.nn.mla` → nn, `minids_cli.train` → minids_cli."""
    first, _, rest = name.partition(".")
    return "minids_cli" if first == "minids_cli" else rest.partition(".")[0]


def test_every_module_has_a_row():
    known = rows()
    parts = {part(name) for name in modules()} - {""}
    assert len(known) >= 12
    assert parts <= set(known), f"not in the table: {sorted(parts - set(known))}"


def test_imports_point_to_lower_rows():
    known, wrong = rows(), []
    for name, path in modules().items():
        for other in imports(path):
            inside = other.startswith(("minids.", "minids_cli"))
            if not inside or part(other) in ("", part(name), "__version__"):
                continue
            if part(name) == "" or known.get(part(other), 9) >= known.get(part(name), 0):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_low_rows_answer_without_torch():
    without = {"errors", "config", "count"}
    heavy = {"torch", "numpy", "einops", "transformers", "rich"}
    for name, path in modules().items():
        if part(name) in without:
            assert not heavy & {i.partition(".")[0] for i in imports(path)}, name


def test_mechanisms_know_torch_einops_and_the_config_only():
    allowed = {"torch", "einops", "minids", "math", "typing", "collections"}
    for name, path in modules().items():
        if part(name) == "nn":
            assert {i.partition(".")[0] for i in imports(path)} <= allowed, name
            ours = {part(i) for i in imports(path) if i.startswith("minids.")}
            assert ours <= {"nn", "config", "errors"}, name


def test_a_mechanism_reads_in_one_sitting():
    known = modules()

    def closure(name, seen):
        if name in known and name.startswith("minids.nn.") and name not in seen:
            seen.add(name)
            for other in imports(known[name]):
                closure(other, seen)
        return seen

    for name in known:
        if name.startswith("minids.nn.") and name.split(".")[2] not in ASSEMBLY:
            files = closure(name, set())
            lines = sum(len(known[f].read_text().splitlines()) for f in files)
            assert lines <= LONGEST_READING, f"{name} pulls in {lines} lines: {sorted(files)}"
    own = {name: len(path.read_text().splitlines()) for name, path in known.items()}
    assert sum(own[f"minids.nn.{name}"] for name in ASSEMBLY) <= LONGEST_READING
    assert max(n for name, n in own.items() if name.startswith("minids.nn.")) <= 300
