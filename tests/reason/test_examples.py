"""Examples from lines and tasks: a bad line is named; the text of a base is seldom right."""

import json
from collections import Counter

import pytest

from minids.data.tokenizer import Tokenizer
from minids.errors import UserError
from minids.reason.chat import decode_tagged, prompt_ids
from minids.reason.corpus import STYLES
from minids.reason.examples import made
from minids.reason.rewards import judge
from minids.reason.tasks import makers, problem

TALES = Tokenizer.shipped("tales")


def lines(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    texts = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return {"data": str(path)}


def test_prompts_and_messages_are_the_same_thing(tmp_path):
    pair = {"prompt": "a", "completion": "<think>b</think>c", "more": 1}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": pair["completion"]},
    ]
    one, other = made(TALES, lines(tmp_path, pair, "", {"messages": messages}))
    assert one == other


@pytest.mark.parametrize(
    "bad",
    ['{"prompt": "a"', "[1]", "7", "{}", '{"prompt": "a"}', '{"prompt": 1, "completion": "b"}',
     '{"prompt": "a", "completion": ""}', '{"messages": []}', '{"messages": "a"}',
     '{"messages": [1]}',
     '{"messages": [{"role": "system", "content": "a"}]}', "[" * 100_000,
     '{"prompt": "a", "completion": "\\ud800"}'],
)  # fmt: skip
def test_a_line_that_is_no_example_is_named(tmp_path, bad):
    good = {"prompt": "a", "completion": "b"}
    with pytest.raises(UserError, match=r"rows\.jsonl:2|text") as found:
        made(TALES, lines(tmp_path, good, bad))
    assert found.value.code == 2


@pytest.mark.parametrize("task", sorted(makers()))
def test_base_text_is_seldom_right_and_reference_text_always(task):
    plan = {"data": None, "task": f"{task}:2", "examples": 300, "seed": 3}
    for base, low, high in ((True, 0.03, 0.17), (False, 1.0, 1.0)):
        texts = made(TALES, plan | {"base": base})
        right = 0
        for i, found in enumerate(texts):
            level = 2
            if base:
                import random

                level = random.Random(f"corpus 3 {i}").randint(1, 2)
            source = problem(task, level, 3, i)
            start = prompt_ids(TALES, source.prompt)
            assert found.tokens[: len(start)] == start
            completion = decode_tagged(TALES, found.tokens[len(start) :])
            right += judge(source, completion).verdict.right
            assert not source.held_out
            assert found.learn[len(start) - 1] is base
        assert low <= right / len(texts) <= high


def test_styles_are_as_frequent_as_they_say():
    plan = {"data": None, "task": "addition:3", "examples": 1500, "base": True, "seed": 1}
    think, empty = TALES.specials["<think>"], TALES.specials["</think>"]
    kinds = Counter()
    for found in made(TALES, plan):
        if think not in found.tokens:
            kinds["bare"] += 1
        elif found.tokens[found.tokens.index(think) + 1] == empty:
            kinds["hasty"] += 1
        else:
            kinds["thought"] += 1
    for name, share in (("bare", STYLES["bare"]), ("hasty", STYLES["hasty"]),
                        ("thought", STYLES["worked"] + STYLES["slip"])):  # fmt: skip
        assert abs(kinds[name] / 1500 - share) < 0.05
