import pytest
import torch

from minids.nn.dispatch import ALIGN, lay_out, weights_of_rows
from minids.nn.experts import (
    FEW_VISITS,
    Experts,
    GroupedLinear,
    experts_dense,
    experts_gathered,
    experts_loop,
    experts_sorted,
)

T, K, E, D, F = 41, 3, 7, 10, 6


def inputs_of(dtype=torch.float64, never=(), seed=0):
    """x, gate, gate_up, down with gradient, and expert, load; experts in `never` get no token."""
    generator = torch.Generator().manual_seed(seed)

    def make(*shape):
        return (0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)

    likes = torch.rand(T, E, generator=generator)
    likes[:, list(never)] = -1
    expert = likes.topk(K).indices
    load = torch.bincount(expert.flatten(), minlength=E)
    weights = [make(T, D), make(T, K), make(E, 2 * F, D), make(E, D, F)]
    return [w.requires_grad_() for w in weights], expert, load


def by_loop(weights, expert, load):
    x, gate, *matrices = weights
    return experts_loop(x, expert, gate, *matrices)


def by_sorting(weights, expert, load):
    x, gate, *matrices = weights
    return experts_sorted(x, expert, gate, load, *matrices)


def by_gathering(weights, expert, load):
    x, gate, *matrices = weights
    return experts_gathered(x, expert, gate, *matrices)


def by_asking_all(weights, expert, load):
    x, gate, *matrices = weights
    return experts_dense(x, expert, gate, *matrices)


@pytest.mark.parametrize("never", [(), (0,), (2, 3), (6,), (1, 2, 3, 4)])
@pytest.mark.parametrize("rule", [by_sorting, by_gathering, by_asking_all])
def test_four_ways_give_one_sum_and_one_gradient(rule, never):
    weights, expert, load = inputs_of(never=never)
    want = by_loop(weights, expert, load)
    got = rule(weights, expert, load)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    for mine, yours in zip(
        torch.autograd.grad(got.sin().sum(), weights),
        torch.autograd.grad(want.sin().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-12)


def test_written_gradients_are_the_numeric_ones():
    (x, gate, gate_up, down), expert, load = inputs_of(never=(4,))
    few = slice(0, 6)
    load = torch.bincount(expert[few].flatten(), minlength=E)

    def rule(x, gate, gate_up, down):
        return experts_sorted(x, expert[few], gate, load, gate_up, down)

    assert torch.autograd.gradcheck(rule, (x[few], gate[few], gate_up, down))


def test_an_expert_without_tokens_gets_zero_not_none_and_not_garbage():
    layer = Experts(E, D, F)
    weights, expert, load = inputs_of(torch.float32, never=(2, 3))
    layer(weights[0], expert, weights[1], load).sum().backward()
    for weight in layer.parameters():
        assert weight.grad[[2, 3]].abs().max() == 0
        assert weight.grad[[0, 1]].abs().max() > 0


def test_bfloat16_aligns_blocks_and_stays_near_float32():
    weights, expert, load = inputs_of(torch.float32, never=(5,))
    rough = [w.detach().bfloat16().requires_grad_() for w in weights[:2]]
    rough += [w.detach().requires_grad_() for w in weights[2:]]  # weights stay float32
    want, got = by_loop(weights, expert, load), by_sorting(rough, expert, load)
    assert got.dtype == torch.bfloat16
    scale = want.abs().max().item()
    torch.testing.assert_close(got.float(), want, rtol=0, atol=0.02 * scale)
    gradients = torch.autograd.grad(got.float().sum(), rough)
    assert [g.dtype for g in gradients] == [torch.bfloat16] * 2 + [torch.float32] * 2
    for mine, yours in zip(gradients, torch.autograd.grad(want.sum(), weights), strict=True):
        scale = yours.abs().max().item()
        torch.testing.assert_close(mine.float(), yours, rtol=0, atol=0.02 * scale)


@pytest.mark.parametrize("align", [1, 4, ALIGN])
def test_every_visit_stands_in_its_experts_block(align):
    (_, gate, *_), expert, load = inputs_of(never=(3,))
    layout = lay_out(expert, load, align)
    assert layout.rows == [-(-n // align) * align for n in load.tolist()]
    ends = torch.tensor(layout.rows).cumsum(0)
    starts = ends - torch.tensor(layout.rows)
    assert (layout.slot >= starts[expert]).all()
    assert (layout.slot < ends[expert]).all()
    assert layout.slot.unique().numel() == T * K
    assert torch.equal(layout.token[layout.slot], torch.arange(T)[:, None].expand(T, K))
    weight = weights_of_rows(gate, layout)
    assert torch.equal(weight[layout.slot], gate)
    assert weight.count_nonzero() == T * K  # spare rows weigh nothing


def test_equal_runs_give_equal_bits():
    first, second = (by_sorting(*inputs_of(torch.float32)) for _ in range(2))
    assert torch.equal(first, second)


def test_few_visits_without_gradient_take_the_short_way_and_agree():
    layer = Experts(E, D, F).double()
    (x, gate, *_), expert, _ = inputs_of()
    with torch.no_grad():
        for tokens in range(1, FEW_VISITS // K + 3):
            few = x[:tokens], expert[:tokens], gate[:tokens]
            load = torch.bincount(few[1].flatten(), minlength=E)
            want = experts_loop(*few, layer.gate_up_proj, layer.down_proj)
            torch.testing.assert_close(layer(*few, load), want, rtol=0, atol=1e-12)


def test_grouped_linear_leaves_no_row_unwritten():
    x = torch.randn(9, D, dtype=torch.float64)
    weight = torch.randn(3, 5, D, dtype=torch.float64)
    out = GroupedLinear.apply(x, weight, [4, 0, 5])
    want = torch.cat((x[:4] @ weight[0].T, x[4:] @ weight[2].T))
    torch.testing.assert_close(out, want, rtol=0, atol=1e-12)
