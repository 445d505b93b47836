"""The two RoPE layouts, exchanged: the same function from permuted rows."""

import dataclasses

import pytest
import torch

from minids.hub.rotary import in_layout
from minids.nn.transformer import Transformer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"q_lora_rank": 0},
        {"attention": "gqa", "attention_bias": True, "use_qk_norm": True},
        {"attention": "gqa", "partial_rotary_factor": 0.5},
    ],
)
@pytest.mark.parametrize("interleave", [True, False])
def test_permuted_weights_compute_the_same_in_the_other_layout(tiny_model, changes, interleave):
    model = tiny_model(rope_interleave=interleave, **changes).double()
    model.compute_dtype = torch.float64
    other = Transformer(dataclasses.replace(model.cfg, rope_interleave=not interleave)).double()
    other.compute_dtype = torch.float64
    turned = {n: in_layout(n, t, model.cfg, not interleave) for n, t in model.state_dict().items()}
    other.load_state_dict(turned)
    tokens = torch.randint(97, (2, 20))
    with torch.no_grad():
        expected = model(tokens)
        torch.testing.assert_close(other(tokens), expected, rtol=0, atol=1e-10)
        other.load_state_dict(model.state_dict())
        assert (other(tokens) - expected).abs().max() > 1e-3  # without it: another function
    back = {n: in_layout(n, t, other.cfg, interleave) for n, t in turned.items()}
    assert all(torch.equal(back[n], t) for n, t in model.state_dict().items())
