"""Shape comments cannot lie: code runs, and every `# [b s d]` is compared with what its line bound.

Sizes differ, so that swapped axes show. Letters of the config have fixed sizes; the others (b, s,
T, …) are whatever the first comment of a call says and must stay so within that call; words stand
for any size. A comment that no run reaches is an error too.
"""

import ast
import importlib
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from minids.config import ModelConfig
from minids.nn import attention, experts, loss, norm
from minids.nn.cache import Cache
from minids.nn.transformer import Transformer

FOLDER = Path(norm.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
MODULES = {name: importlib.import_module(f"minids.nn.{name}") for name in NAMES}


def shape_comments(path):
    """{first line: (last line, {name: axes})} of the assignments that carry a shape comment."""
    source = Path(path).read_text(encoding="utf-8")
    lines, found = source.splitlines(), {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign) or "  # [" not in lines[node.end_lineno - 1]:
            continue
        comment = lines[node.end_lineno - 1].partition("  # ")[2]
        shapes = re.findall(r"\[([^][]*)\]", re.match(r"(\[[^][]*\](, )?)+", comment)[0])
        names = [n.id for target in node.targets for n in getattr(target, "elts", [target])]
        if len(node.targets) > 1:
            shapes *= len(node.targets)
        assert len(shapes) <= len(names), f"{path}:{node.lineno}: more shapes than names"
        found[node.lineno] = node.end_lineno, dict(zip(names, shapes, strict=False))
    return found


def mismatch(shape, comment, sizes, bound):
    """Whether a shape contradicts its comment; a letter alone that is still free is bound."""
    axes = comment.split()
    if axes[:1] == ["…"]:
        axes, shape = axes[1:], shape[len(shape) - len(axes) + 1 :]
    if len(axes) != len(shape):
        return True
    for axis, size in zip(axes, shape, strict=True):
        known = sizes | bound
        if axis.isidentifier() and axis not in known:
            bound |= {axis: size} if len(axis) == 1 else {}  # a word may be of any size
        elif set(re.findall(r"[A-Za-z]+", axis)) <= set(known) and eval(axis, {}, known) != size:  # noqa: S307
            return True
    return False


@contextmanager
def checked_shapes(sizes, visited):
    """Compare while the code inside runs; adds (module, line) of every comment reached."""
    comments = {module.__file__: shape_comments(module.__file__) for module in MODULES.values()}
    pending, bound, wrong = {}, {}, []

    def compare(frame, line):
        file = frame.f_code.co_filename
        whole = {n: v for n, v in frame.f_locals.items() if isinstance(v, int)}
        for name, axes in comments[file][line][1].items():
            shape = tuple(frame.f_locals[name].shape)
            visited.add((Path(file).stem, line))
            if mismatch(shape, axes, sizes | whole, bound.setdefault(frame, {})):
                wrong.append(f"{Path(file).name}:{line}: {name} is {shape}, not [{axes}]")

    def on_event(frame, event, _arg):
        of_file = comments[frame.f_code.co_filename]
        line = pending.pop(frame, None)
        if line and event == "line" and line <= frame.f_lineno <= of_file[line][0]:
            pending[frame] = line  # still inside the same statement
        elif line and event in ("line", "return"):
            compare(frame, line)
        if event == "line" and frame.f_lineno in of_file:
            pending[frame] = frame.f_lineno
        if event == "return":
            bound.pop(frame, None)
        return on_event

    before = sys.gettrace()
    sys.settrace(lambda frame, *_: on_event if frame.f_code.co_filename in comments else None)
    try:
        yield
    finally:
        sys.settrace(before)
    assert not wrong, "\n".join(sorted(set(wrong)))


SIZES = {"d": 22, "h": 3, "g": 3, "n": 10, "r": 6, "p": 3, "v": 14, "c": 17, "q": 19, "V": 89}
SIZES |= {"f": 26, "e": 8, "k": 5, "G": 4}
V3 = ModelConfig(
    vocab_size=SIZES["V"],
    hidden_size=SIZES["d"],
    num_hidden_layers=2,
    num_attention_heads=SIZES["h"],
    q_lora_rank=SIZES["q"],
    kv_lora_rank=SIZES["c"],
    qk_nope_head_dim=SIZES["n"],
    qk_rope_head_dim=SIZES["r"],
    v_head_dim=SIZES["v"],
    intermediate_size=41,
    moe_intermediate_size=SIZES["f"],
    n_routed_experts=SIZES["e"],
    n_shared_experts=1,
    num_experts_per_tok=SIZES["k"],
    n_group=SIZES["G"],
    topk_group=3,
    num_nextn_predict_layers=2,
    use_qk_norm=True,
    rope_type="yarn",
    rope_factor=4.0,
)


def runs():
    """What is run under the checker: (config changes, sizes that change with them)."""
    from dataclasses import replace

    v2 = {"topk_method": "group_limited_greedy", "scoring_func": "softmax", "q_lora_rank": 0}
    gqa = {"attention": "gqa", "num_key_value_heads": 1, "head_dim": 34, "rope_interleave": False}
    return [
        (V3, {}),
        (replace(V3, **v2), {}),
        (replace(V3, **gqa, partial_rotary_factor=0.53), {"g": 1, "n": 34, "v": 34, "p": 9}),
        (replace(V3, **gqa, rope_type="llama3"), {"g": 1, "n": 34, "v": 34, "p": 17}),
    ]


def run(cfg):
    """Train, decode and balance once, with padding and without."""
    model = Transformer(cfg)
    model.init_weights(torch.Generator().manual_seed(0))
    tokens = torch.randint(0, cfg.vocab_size, (5, 13))  # [b s]
    sums = model.loss(SimpleNamespace(tokens=tokens, labels=tokens))
    sums.total.backward()
    model.update_biases(sums.load)
    with torch.no_grad():
        cache = Cache(cfg.num_hidden_layers)
        model(tokens, mask=tokens > 3, cache=cache)
        model(tokens[:, :1], cache=cache)
        model(tokens[:1, :1])
        model.hidden(tokens, replay=torch.full((2, 65, cfg.num_experts_per_tok), -1))
    model.compute_dtype = torch.bfloat16
    model.loss(SimpleNamespace(tokens=tokens, labels=tokens)).total.backward()
    norm.rms_norm(torch.randn(3, 4), torch.ones(4), 1e-6)
    q, k, v = torch.randn(2, 5, 3, 10), torch.randn(2, 7, 3, 10), torch.randn(2, 7, 3, 14)
    attention.attend_by_hand(q, k, v, 1.0)
    attention.attend(torch.randn(1, 600, 1, 2), *torch.randn(2, 1, 600, 1, 2), 1.0)
    gate_up, down = torch.randn(8, 52, 22), torch.randn(8, 22, 26)
    for rule in (experts.experts_loop, experts.experts_dense, experts.experts_gathered):
        rule(torch.randn(7, 22), torch.randint(0, 8, (7, 5)), torch.rand(7, 5), gate_up, down)
    labels = torch.tensor([3, -100, 5, 7, 88])
    loss.cross_entropy_in_blocks(torch.randn(5, 22), torch.randn(89, 22), labels)


def test_every_shape_comment_of_nn_is_true_and_reached():
    visited = set()
    for cfg, changes in runs():
        with checked_shapes(SIZES | changes, visited):
            run(cfg)
    every = {(n, line) for n in NAMES for line in shape_comments(MODULES[n].__file__)}
    assert len(every) > 40
    assert not every - visited, f"no run reaches {sorted(every - visited)}"


def test_a_wrong_comment_is_found():
    bound = {}
    assert not mismatch((5, 13, 22), "b s d", SIZES, bound)
    assert bound == {"b": 5, "s": 13}
    assert mismatch((5, 22, 13), "b s d", SIZES, {})
    assert mismatch((5, 12, 22), "b s d", SIZES, bound)
    assert not mismatch((5, 12, 16), "b s-1 n+r", SIZES, bound)
    assert mismatch((5, 12, 17), "… n+r", SIZES, bound)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short(name):
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 300
