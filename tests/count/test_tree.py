"""The tree adds up, folds equal layers, and needs neither torch nor time."""

import subprocess
import sys

import pytest

from minids import config
from minids.count import flops
from minids.count.params import count
from minids.count.tree import Node, mtp_tree, span, summary, tree


def add_up(node: Node) -> None:
    """Every module is the sum of its parts."""
    if not node.children:
        return
    for field in ("params", "active", "flops"):
        total = sum(part.times * getattr(part, field) for part in node.children)
        assert total == pytest.approx(getattr(node, field), rel=1e-12), (node.name, field)
    for part in node.children:
        add_up(part)


@pytest.mark.parametrize("preset", config.presets())
def test_every_module_is_the_sum_of_its_parts(preset):
    cfg = config.load(preset).model
    root, beside = tree(cfg), mtp_tree(cfg)
    add_up(root)
    assert (root.params, root.active) == count(cfg)[:2]
    assert root.flops == pytest.approx(flops.forward(cfg), rel=1e-12)
    assert (beside.params if beside else 0) == count(cfg).mtp
    if beside:
        add_up(beside)


def test_61_layers_of_v3_fold_into_two_kinds():
    root = tree(config.load("deepseek-v3").model)
    assert [(part.name, part.times) for part in root.children] == [
        ("embed_tokens", 1),
        ("layers 0…2", 3),
        ("layers 3…60", 58),
        ("norm", 1),
        ("lm_head", 1),
    ]
    attention = root.children[2].children[1]
    assert (attention.name, attention.params) == ("self_attn", 187_107_328)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([4], "4"),
        ([0, 1], "0, 1"),
        ([3, 4, 5], "3…5"),
        ([2, 4, 6], "2, 4 … 6"),
        ([0, 1, 5], "0, 1, 5"),
    ],
)
def test_spans_read_well(numbers, text):
    assert span(numbers) == text


def test_the_summary_has_the_names_scripts_rely_on():
    found = summary(config.load("deepseek-v3").model)
    assert found["params"] == 671_026_419_200
    assert found["active_params"] == 36_624_721_920
    assert found["kv_elements_per_token"] == 35_136
    assert found["kv_bytes_per_token"] == 70_272
    assert found["flops_per_token"] == pytest.approx(83.48e9, rel=1e-3)


def test_counting_imports_no_torch():
    code = (
        "import sys; from minids import config; from minids.count.tree import summary, tree;"
        "cfg = config.load('deepseek-v3').model; tree(cfg); summary(cfg);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
