"""Sampling for RL: our rollouts against transformers' `generate`, same model, same weights.

Eight prompts with eight completions each, drawn at temperature 1, with the log-probability of every
chosen token, as an update needs them. Ours reads a prompt once for its group. No token ends a
completion here, so no side gains from rows that leave.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from minids.bench.harness import Arm, Plan, answer, compare, fastest, peak_bytes, report, timed
from minids.bench.peer import Best, fill, small_v3, their_model

MODULE = "minids_cli.bench_rl"
GROUPS = (1, 8)  # completions of each of eight prompts
PROMPTS, PROMPT, NEW = 8, 32, 96  # prompts, tokens, tokens
WIDTH = 64


def bench(plan: Plan) -> dict[str, Any]:
    """Every case → the report."""
    best = Best(MODULE, plan, attention=("sdpa",))
    threads = sorted({1, plan.threads})
    cases = []
    for group in GROUPS:
        label = f"batch {PROMPTS * group}: {PROMPTS} prompts × {group}, {PROMPT} + {NEW} tokens"
        if plan.only not in label:
            continue
        order = {"group": group, "prompt": PROMPT, "new": NEW, "seconds": plan.seconds}
        candidates = [Arm("minids", MODULE, {"arm": "minids", **order}, n) for n in threads]
        ours, _ = fastest(candidates, plan.tell)
        theirs = best.choose(label, order, threads) if plan.peer else None
        cases.append(compare(label, "tokens/s", ours, theirs, plan))
    return report("rl", plan, cases, tried=best.tried)


def prompts(order: dict[str, Any]) -> Tensor:
    """Random prompts.  → [B t]"""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, small_v3(WIDTH).vocab_size, (PROMPTS, order["prompt"]), generator=generator
    )


def ours(order: dict[str, Any]) -> dict[str, Any]:
    """`roll_out`, as `minids rl` calls it."""
    from minids.generate.settings import Sampling
    from minids.nn.transformer import Transformer
    from minids.reason.rollout import mismatch, roll_out, score

    imported = peak_bytes()
    model = Transformer(small_v3(WIDTH))
    fill(model)
    tokenizer: Any = SimpleNamespace(eos=-1, pad=0)
    rows = prompts(order).tolist()

    def call():
        generator = torch.Generator().manual_seed(1)
        return roll_out(model, tokenizer, rows, order["group"], Sampling(), order["new"], generator)

    roll = call()
    with torch.no_grad():
        apart = mismatch(roll, score(model, roll, 1.0).logp)
    return measured(call, order, imported) | {"mismatch": apart.largest}


def theirs(order: dict[str, Any]) -> dict[str, Any]:
    """`generate` with its cache, drawing, the scores kept."""
    import transformers.models.deepseek_v3.modeling_deepseek_v3  # noqa: F401  before the baseline

    imported = peak_bytes()
    model = their_model(small_v3(WIDTH), order["settings"], torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    rows = prompts(order)
    mask = torch.ones_like(rows)

    def call():
        out = model.generate(
            input_ids=rows, attention_mask=mask, max_new_tokens=order["new"], do_sample=True,
            temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=order["group"],
            use_cache=True, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        return model.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)

    return measured(call, order, imported)


def measured(call, order: dict[str, Any], imported: int) -> dict[str, Any]:
    """What both arms say."""
    seconds = timed(call, order["seconds"], warmup=1)
    return {
        "rate": PROMPTS * order["group"] * order["new"] / seconds,
        "ms_per_step": 1e3 * seconds / order["new"],
        "import_bytes": imported,
        "peak_bytes": peak_bytes(),
    }


def work(order: dict[str, Any]) -> dict[str, Any]:
    """One arm."""
    return ours(order) if order["arm"] == "minids" else theirs(order)


if __name__ == "__main__":
    raise SystemExit(answer(work))
