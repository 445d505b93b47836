"""What every exercise of the course must be: right is right, each mistake has its name, in time."""

import ast
import inspect
import re
import textwrap

import pytest

from minids.lab import exercises, master
from minids.lab.check import LIMIT_S, judge
from minids.lab.exercise import Exercise, Mistake

SEEDS = range(5)
ALL = exercises.all_exercises()
MISTAKES = [(e, m) for e in ALL for m in e.mistakes]
by_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)


@by_exercise
def test_the_reference_is_right(exercise):
    verdicts = [judge(exercise, exercise.reference, seed) for seed in SEEDS]
    assert all(verdicts), verdicts
    assert min(v.seconds for v in verdicts) < LIMIT_S


@by_exercise
def test_a_blank_is_not_attempted(exercise):
    def blank(*args, **options):
        raise NotImplementedError("your code")

    class Blank:
        def __init__(self, *args, **options):
            raise NotImplementedError("your code")

    verdict = judge(exercise, Blank if inspect.isclass(exercise.reference) else blank)
    assert verdict.kind == "blank", verdict


@pytest.mark.parametrize(
    ("exercise", "mistake"), MISTAKES, ids=[f"{e.id}-{m.name}" for e, m in MISTAKES]
)
def test_every_mistake_fails_with_its_own_name(exercise, mistake):
    verdicts = [judge(exercise, mistake.answer, seed) for seed in SEEDS]
    for seed, verdict in zip(SEEDS, verdicts, strict=True):
        assert (verdict.kind, verdict.mistake) == ("mistake", mistake.name), (seed, verdict)
    assert min(v.seconds for v in verdicts) < LIMIT_S


@by_exercise
def test_it_is_complete(exercise):
    assert re.fullmatch(r"\d\d\.[1-9]", exercise.id) and exercise.name.isidentifier()
    meant = {(m.name, m.says) for m in exercise.mistakes}  # one mistake may have several outputs
    names = [name for name, _ in meant]
    assert len(names) >= 3 and len(set(names)) == len(names)
    assert not [n for n in names if not 2 <= len(n.split()) <= 7 or n.endswith(".")]
    assert not [
        m.says for m in exercise.mistakes if len(m.says) < 20 or m.says.rstrip(")")[-1] not in ".?"
    ]
    assert len(exercise.hints) == 3 and len(set(exercise.hints)) == 3
    assert all(len(hint) > 10 for hint in exercise.hints)


@by_exercise
def test_neither_hints_nor_mistakes_print_the_answer(exercise):
    lines = code_lines(inspect.getsource(exercise.reference))
    for cell in solution_cells(exercise.id[:2]):
        lines |= code_lines(cell) if f"### YOUR CODE {exercise.id}" in cell else set()
    texts = [*exercise.hints, *(m.says for m in exercise.mistakes)]
    given = [(line, text) for line in lines for text in texts if line in text]
    assert not given


def test_ids_belong_to_their_lessons_and_are_unique():
    for number in exercises.lessons():
        found = [e.id for e in exercises.of_lesson(number)]
        found += [p.id for p in exercises.predictions_of(number)]
        assert all(name.startswith(f"{number:02d}.") for name in found)
        assert len(set(found)) == len(found)


def test_predictions_have_a_question_and_a_default_inside_their_range():
    for one in exercises.all_predictions():
        assert re.fullmatch(r"\d\d\.[a-z]", one.id) and one.question.rstrip().endswith("?"), one.id
        assert one.low <= one.default <= one.high and one.low < one.high, one.id


def test_each_exercise_stands_in_its_lesson_and_each_lesson_knows_its_exercises():
    for number, path in master.paths().items():
        asked = set(master.read(path).exercises)
        assert asked == {e.id for e in exercises.of_lesson(int(number))}, path.name


def test_the_harness_finds_a_mistake_that_nothing_tells_apart(toy):
    twin = Mistake("twin of the first", "It gives the very same numbers.", toy.mistakes[0].answer)
    changed = Exercise(**vars(toy) | {"mistakes": (*toy.mistakes, twin)})
    assert judge(changed, twin.answer).mistake != twin.name


def code_lines(source):
    """Lines that say something: no signature, comment or docstring."""
    tree = ast.parse(textwrap.dedent(source))
    docs = {c.value for n in ast.walk(tree) for c in ast.iter_child_nodes(n) if is_text(c)}
    said = "\n".join(doc.value for doc in docs)
    lines = {line.split("  #")[0].strip() for line in source.splitlines()}
    heads = ("def ", "class ", "import ", "from ", "#", '"')
    lines = {line for line in lines if not line.startswith(heads) and line not in said}
    return {line for line in lines if len(line) > 12 and re.search(r"[=(]", line)}


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def solution_cells(number):
    path = master.paths().get(number)
    return [master.source(c) for c in master.load(path)["cells"]] if path else []
