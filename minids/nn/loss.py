"""Cross-entropy of the output head, some tokens at a time.

Logits are the largest tensor of a small model: T·V numbers, and the textbook way holds several
copies of them until the gradient is taken. Here a block of tokens makes its logits, its loss and
its gradients in one go and forgets them, while they are still near the processor.
Axes: T tokens, d hidden_size, V vocabulary, B tokens of a block.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IGNORE = -100  # label of a position that has no target
NEAR = 1 << 20  # logits that stay near the processor: 4 MB
SHORTEST = 512  # tokens of a block, or the products become too thin


def cross_entropy(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """The definition: Σ −ln softmax(head · state)[label], in float32 at least.

    state [T d], head [V d], labels [T] → scalar
    """
    logits = F.linear(state, head.to(state.dtype))  # [T V]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # [T V]
    return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")


def cross_entropy_in_blocks(state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """The same number and gradients; where labels are IGNORE, not even logits are made.

    Gradients are made on the way forward, so it is for training only.
    """
    return InBlocks.apply(state, head, labels)


class InBlocks(torch.autograd.Function):
    """∂loss/∂logits is softmax − one-hot, so no logit needs to be kept."""

    @staticmethod
    def forward(ctx, state: Tensor, head: Tensor, labels: Tensor) -> Tensor:
        weight = head.to(state.dtype)  # [V d]
        wide = torch.promote_types(state.dtype, torch.float32)
        loss = torch.zeros((), dtype=wide, device=state.device)
        grad_state, grad_head = torch.zeros_like(state), torch.zeros_like(head)  # [T d], [V d]
        real = (labels != IGNORE).nonzero().flatten()  # [targets]
        for block in real.split(max(SHORTEST, NEAR // len(head))):
            x, label = state[block], labels[block, None]  # [B d], [B 1]
            logp = F.linear(x, weight).to(wide).log_softmax(-1)  # [B V]
            loss -= logp.gather(-1, label).sum()
            one = torch.ones_like(label, dtype=wide)  # [B 1]
            error = logp.exp_().scatter_add_(-1, label, -one).to(x.dtype)  # [B V]
            grad_state[block] = error @ weight
            grad_head += error.T @ x
        ctx.save_for_backward(grad_state, grad_head)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_state, grad_head = ctx.saved_tensors
        return grad_state * grad.to(grad_state.dtype), grad_head * grad.to(grad_head.dtype), None
