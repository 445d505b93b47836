"""Lesson 12: labels further ahead, the module that looks further, its loss, the rule of drafts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from minids.config import ModelConfig
from minids.generate import speculative
from minids.generate.sample import draw
from minids.lab.exercise import Case, Exercise, Mistake, Prediction
from minids.nn import mtp
from minids.nn.loss import IGNORE
from minids.nn.mtp import MTPModule
from minids.nn.rope import Rope
from minids.nn.transformer import Transformer


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """One of low … high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# 12.1 shift_labels


def packed(generator: torch.Generator) -> Iterator[Case]:
    """Rows of documents; IGNORE ends each of them."""
    yield Case((torch.tensor([[3, 1, 4, IGNORE]]),), "one document")
    yield Case((torch.tensor([[3, 1, IGNORE, 5, 9, 2, IGNORE, 6]]),), "three, the last goes on")
    for b, s in ((1, 7), (2, 12), (3, 20)):
        labels = torch.randint(0, 50, (b, s), generator=generator)  # [b s]
        labels[torch.rand(b, s, generator=generator) < 0.25] = IGNORE
        labels[:, 2], labels[:, 3] = IGNORE, 7
        yield Case((labels,), f"b={b} s={s}")


# 12.2 look_further


def small(generator: torch.Generator, depth: int) -> Transformer:
    """A model of random weights, norms included, dense and tiny."""
    cfg = ModelConfig(
        vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        kv_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=2, v_head_dim=4,
        intermediate_size=12, n_routed_experts=0, num_nextn_predict_layers=depth,
        initializer_range=0.0, mtp_loss_weight=0.1 * whole(generator, 2, 9),
    )  # fmt: skip
    model = Transformer(cfg)
    model.init_weights(generator)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += 0.4 * torch.randn(weight.shape, generator=generator)
    return model


def joints(generator: torch.Generator) -> Iterator[Case]:
    """A module, states of any size and embeddings."""
    for b, s in ((1, 1), (1, 3), (2, 4), (3, 5)):
        model = small(generator, 1)
        state = 3 * torch.randn(b, s, 8, generator=generator)  # [b s d]
        embedded = 0.3 * torch.randn(b, s, 8, generator=generator)  # [b s d]
        rope = model.rope(torch.arange(s))
        yield Case((model.mtp[0], state, embedded, rope), f"b={b} s={s}")


def look_further(module: MTPModule, state: Tensor, embedded: Tensor, rope: Rope) -> Tensor:
    """The library's method, without its routing.  [b s d], [b s d] → [b s d]"""
    return MTPModule.look_further(module, state, embedded, rope)[0]


def through(module: MTPModule, first: Tensor, second: Tensor, rope: Rope) -> Tensor:
    """What follows the two halves."""
    out, _ = module(module.eh_proj(torch.cat([first, second], dim=-1)), rope)
    return module.shared_head.norm(out)


def no_last_norm(module: MTPModule, state: Tensor, embedded: Tensor, rope: Rope) -> Tensor:
    joined = torch.cat([module.enorm(embedded), module.hnorm(state)], dim=-1)
    return module(module.eh_proj(joined), rope)[0]


# 12.3 mtp_loss


def learners(generator: torch.Generator) -> Iterator[Case]:
    """A model of one or more depths and a packed batch."""
    for depth, b, s in ((1, 1, 5), (2, 2, 7), (3, 2, 9)):
        model = small(generator, depth)
        tokens = torch.randint(0, 13, (b, s), generator=generator)  # [b s]
        labels = torch.full_like(tokens, IGNORE)  # [b s]
        labels[:, :-1] = tokens[:, 1:]
        if depth > 1:
            labels[0, 3] = IGNORE
        state = torch.randn(b, s, 8, generator=generator)  # [b s d]
        yield Case((model, tokens, labels, state), f"u={depth} b={b} s={s}")


def mtp_loss(model: Transformer, tokens: Tensor, labels: Tensor, state: Tensor) -> Tensor:
    """λ/u Σ over depths of the library's sums."""
    sums, _ = model.mtp_losses(tokens, labels, state, [])
    return model.cfg.mtp_loss_weight / len(model.mtp) * sums.sum()


def sums(
    model: Transformer, tokens: Tensor, labels: Tensor, state: Tensor,
    *, late: int = 0, chained: bool = True, embedding_is_head: bool = False, shift: bool = True,
) -> list[Tensor]:  # fmt: skip
    """The loop over depths, and four ways to get it wrong."""
    found, main, s = [], state, tokens.shape[1]
    for u, module in enumerate(model.mtp, start=1):
        assert isinstance(module, MTPModule)
        n = s - u
        embedded = model.embed(tokens[:, u - late : s - late])  # [b n d]
        labels = mtp.shift_labels(labels) if shift else labels[:, :-1]  # [b n]
        before = state if chained else main
        state, _ = module.look_further(before[:, :n], embedded, model.rope(torch.arange(n)))
        head = model.embed_tokens.weight if embedding_is_head else model.lm_head.weight
        logp = (state @ head.T).log_softmax(-1)  # [b n V]
        real = labels != IGNORE  # [b n]
        found.append(-logp[real].gather(-1, labels[real, None]).sum())
    return found


def weighted(of_depths, **how):
    """λ/u Σ of the sums made one way → a student's function."""

    def answer(model: Transformer, tokens: Tensor, labels: Tensor, state: Tensor) -> Tensor:
        found = torch.stack(sums(model, tokens, labels, state, **how))  # [u]
        return model.cfg.mtp_loss_weight * of_depths(found)

    return answer


# 12.4 verify


def tries(generator: torch.Generator) -> Iterator[Case]:
    """Drafts drawn from q, some hopeless; enough of them that every branch is taken often."""
    for u in (1, 1, 2, 3):
        for k in range(14):
            size = whole(generator, 4, 7)
            p = torch.rand(u + 1, size, generator=generator, dtype=torch.float64) ** 2
            q = torch.rand(u, size, generator=generator, dtype=torch.float64) ** 2
            p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
            if k % 4 == 3:  # a good draft
                q = 0.5 * p[:-1] + 0.5 * q
            drafts = [int(x) for x in draw(q, torch.rand(u, 1, generator=generator).double())]
            uniform = torch.rand(u + 1, generator=generator, dtype=torch.float64)
            yield Case((p, q, drafts, uniform), f"u={u} V={size}")
    p, q = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).double(), torch.tensor([[0.5, 0.5]]).double()
    yield Case((p, q, [0], torch.tensor([0.0, 0.25]).double()), "a draft that p forbids")


def chosen(weights: Tensor, uniform: Tensor) -> int:
    """[V] → one token by the last uniform number."""
    return int(draw(weights[None], uniform[None, -1:]))


def rejecting(accepts, weights):
    """verify with another rule of acceptance or another distribution after a rejection."""

    def answer(p: Tensor, q: Tensor, drafts: list[int], uniform: Tensor) -> tuple[int, int]:
        for i, x in enumerate(drafts):
            if not accepts(p[i, x], q[i, x], uniform[i]):
                return i, chosen(weights(p[i], q[i]), uniform)
        return len(drafts), chosen(p[len(drafts)], uniform)

    return answer


def right_rule(p: Tensor, q: Tensor, uniform: Tensor) -> bool:
    return bool(uniform * q < p)


def residual(p: Tensor, q: Tensor) -> Tensor:
    return (p - q).clamp(min=0)


def keeps_the_rejected(p: Tensor, q: Tensor, drafts: list[int], uniform: Tensor) -> tuple[int, int]:
    n, token = speculative.verify(p, q, drafts, uniform)
    return (n, token) if n == len(drafts) else (n + 1, token)


def goes_on(p: Tensor, q: Tensor, drafts: list[int], uniform: Tensor) -> tuple[int, int]:
    n = sum(right_rule(p[i, x], q[i, x], uniform[i]) for i, x in enumerate(drafts))
    weights = p[n] if n == len(drafts) else residual(p[n], q[n])
    return n, chosen(weights, uniform)


EXERCISES = (
    Exercise(
        id="12.1",
        name="shift_labels",
        title="targets one token further",
        reference=mtp.shift_labels,
        cases=packed,
        mistakes=(
            Mistake(
                "labels off by one",
                "These are the main model's own labels, one position short. The module would "
                "learn to predict the token that it is given as an embedding.",
                lambda labels: labels[:, :-1],
            ),
            Mistake(
                "labels across documents",
                "Where the next token belongs to another document, so does the one after it. The "
                "module is asked to guess the beginning of a text chosen at random.",
                lambda labels: labels[:, 1:],
            ),
            Mistake(
                "the row wraps around",
                "Behind the last position nothing is known; `roll` brings the first label there. "
                "The result is one column shorter.",
                lambda labels: labels.roll(-1, -1).masked_fill(labels == IGNORE, IGNORE),
            ),
            Mistake(
                "the wrong neighbour asked",
                "A gap must be looked for at the position itself; here it is looked for two "
                "places further, and a good target is lost while a bad one stays.",
                lambda labels: labels[:, 1:].masked_fill(
                    torch.cat([labels[:, 2:], labels[:, -1:]], 1) == IGNORE, IGNORE
                ),
            ),
        ),
        hints=(
            "Write tokens, labels and the new labels below each other for two short documents.",
            "Position i takes the label of its right neighbour. When is that another document's?",
            "A real target needs two real labels in a row: the position's own and the next.",
        ),
    ),
    Exercise(
        id="12.2",
        name="look_further",
        title="join state and embedding",
        reference=look_further,
        cases=joints,
        gradients=True,
        mistakes=(
            Mistake(
                "state before embedding",
                "The report writes the state first, but the released projection expects the "
                "embedding first. Trained anew it would not matter; with loaded weights it does.",
                lambda m, s, e, r: through(m, m.hnorm(s), m.enorm(e), r),
            ),
            Mistake(
                "the two norms swapped",
                "Each norm has weights for its own input: `enorm` belongs to the embedding, "
                "`hnorm` to the state.",
                lambda m, s, e, r: through(m, m.hnorm(e), m.enorm(s), r),
            ),
            Mistake(
                "joined without norms",
                "State and embedding have very different sizes. Without norms the larger one "
                "drowns the other.",
                lambda m, s, e, r: through(m, e, s, r),
            ),
            Mistake(
                "no norm before the head",
                "The shared head expects states behind a norm, and so does the next module.",
                no_last_norm,
            ),
        ),
        hints=(
            "The module has five parts: enorm, hnorm, eh_proj, itself as a block, shared_head.",
            "Norm each input by its own norm, join along the channels, project, run the block.",
            "Mind the order in the join, the embedding leads; and one more norm stands at the end.",
        ),
    ),
    Exercise(
        id="12.3",
        name="mtp_loss",
        title="what all depths add to the loss",
        reference=mtp_loss,
        cases=learners,
        mistakes=(
            Mistake(
                "embedding of token t",
                "The state at t has read token t already. The news is the token that depth u−1 "
                "was asked to predict, u places further.",
                weighted(torch.mean, late=1),
            ),
            Mistake(
                "own head instead of shared",
                "Another matrix than the main model's head makes the logits. Sharing it is what "
                "keeps a module small and lets its gradient train the head.",
                weighted(torch.mean, embedding_is_head=True),
            ),
            Mistake(
                "λ not averaged over depths",
                "λ weighs the mean over depths. A plain sum makes every further depth take "
                "weight from the next token.",
                weighted(torch.sum),
            ),
            Mistake(
                "every depth from the main state",
                "The modules are a chain: depth u starts from the state of depth u−1, which has "
                "read one token more.",
                weighted(torch.mean, chained=False),
            ),
            Mistake(
                "labels not moved",
                "Each depth predicts one token further than the one before; its labels move too.",
                weighted(torch.mean, shift=False),
            ),
        ),
        hints=(
            "Go through the depths in a loop; each has one position less than the one before.",
            "Depth u needs three things cut to the same length: state, embedding, labels.",
            "Drop the last state, drop the first u tokens, move the labels once per depth; "
            "at the end weigh the mean over depths.",
        ),
    ),
    Exercise(
        id="12.4",
        name="verify",
        title="how many drafts stay, and what follows",
        reference=speculative.verify,
        cases=tries,
        mistakes=(
            Mistake(
                "accepted only if p ≥ q",
                "A draft with p < q should stay sometimes, with probability p/q. Rejected "
                "always, it comes too rarely, and the distribution is no longer p.",
                rejecting(lambda p, q, _: bool(p >= q), residual),
            ),
            Mistake(
                "drawn from p after rejection",
                "Tokens that q likes have had their chance already. What is missing is where p "
                "exceeds q; drawing from p counts the draft's favourites twice.",
                rejecting(right_rule, lambda p, _: p),
            ),
            Mistake(
                "a rejected draft is kept",
                "The draft that failed stays among the accepted. Everything behind it is "
                "conditioned on a token that the model did not choose.",
                keeps_the_rejected,
            ),
            Mistake(
                "goes on after a rejection",
                "p of the later positions was computed given the rejected draft. The first "
                "rejection ends the round.",
                goes_on,
            ),
            Mistake(
                "accepted by p alone",
                "With probability p alone a draft is rejected too often: q drew it, and that "
                "already happened with probability q.",
                rejecting(lambda p, _, uniform: bool(uniform < p), residual),
            ),
        ),
        hints=(
            "Go through the drafts in order and stop at the first that fails.",
            "A draft stays with probability min(1, p/q). What mass does that leave unfilled?",
            "After a rejection draw from the part of p that q does not cover; if none fails, the "
            "last row of p is free.",
        ),
    ),
)

PREDICTIONS = (
    Prediction(
        "12.a",
        "What share of the MTP module's drafts will the small model accept, in %?",
        "%",
        50.0,
        0.0,
        100.0,
    ),
)
