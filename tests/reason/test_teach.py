"""What a student is given to read: right answers only, each once, in its own vocabulary."""

from minids.data.tokenizer import Tokenizer
from minids.reason import teach
from minids.reason.chat import decode_tagged, prompt_ids
from minids.reason.passrate import Attempt
from minids.reason.rewards import judge


def attempts(_model, _tokenizer, problems, *, samples, **_rule):
    """Every second completion is right."""
    found = []
    for i, made in enumerate(problems):
        for j in range(samples):
            text = made.completion if (i + j) % 2 else "<think></think><answer>x</answer>"
            found.append(Attempt(made, text, [], judge(made, text)))
    return found


def test_traces_are_what_the_verifier_accepts(monkeypatch):
    monkeypatch.setattr(teach, "attempt", attempts)
    own, other = Tokenizer.shipped("tales"), Tokenizer.of_characters("0123456789+= ")
    for to in (None, other):
        found = list(teach.accepted(None, own, [("addition", 1)], 40, seed=3, longest=9, to=to))
        assert 0 < len(found) <= 10  # each different one once
        spoken = to or own
        made = teach.drawn([("addition", 1)], 10, 3)
        prompts = {tuple(prompt_ids(spoken, p.prompt)): p for p in made}
        for example in found:
            start = example.learn.index(True)
            problem = prompts[tuple(example.tokens[:start])]
            said = decode_tagged(spoken, example.tokens[start:])
            assert problem.verify(said.partition("<answer>")[2].partition("</answer>")[0]).right
