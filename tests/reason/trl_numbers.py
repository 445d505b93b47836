"""Makes trl_numbers.json: losses and gradients of TRL's own code at random inputs, in float64.

    python tests/reason/trl_numbers.py        (needs trl==1.16.0; the tests need only the file)

TRL's `_compute_loss` is called as it stands; what it would ask a model for comes from a table.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch

N, S, GROUP = 6, 7, 3
CASES = {
    "grpo": {}, "grpo wide": {"epsilon_low": 0.1, "epsilon_high": 0.6}, "bnpo": {"loss": "bnpo"},
    "dr_grpo": {"loss": "dr_grpo"}, "dapo": {"loss": "dapo", "epsilon_high": 0.28},
    "luspo": {"loss": "luspo", "ratio": "sequence"}, "luspo tokens": {"loss": "luspo"},
    "cispo": {"loss": "cispo", "epsilon_high": 1.3}, "sapo": {"loss": "sapo"},
    "sapo sequence": {"loss": "sapo", "ratio": "sequence"}, "vespo": {"loss": "vespo"},
    "gspo": {"ratio": "sequence", "epsilon_low": 0.03, "epsilon_high": 0.04},
    "gspo delta": {"ratio": "sequence", "epsilon_high": 0.04, "delta": 1.1},
    "delta": {"delta": 1.5}, "kl": {"beta": 0.3}, "kl unbiased": {"beta": 0.3, "unbiased_kl": True},
    "gspo kl": {"ratio": "sequence", "beta": 0.2, "unbiased_kl": True},
    "masked": {"off_policy": 0.05}, "v3.2": {"beta": 0.2, "unbiased_kl": True, "off_policy": 0.05},
    **{f"{name} kl": {"loss": name, "beta": 0.3}
       for name in ("bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")},
}  # fmt: skip


def inputs(generator):
    """Log-probabilities, a random mask with one empty completion, rewards with an even group."""
    logp = -3 * torch.rand(N, S, generator=generator, dtype=torch.float64)
    near = [logp + 0.4 * torch.randn(N, S, generator=generator, dtype=torch.float64) for _ in "abc"]
    mask = (torch.rand(N, S, generator=generator) < 0.7).double()
    mask[1] = 0
    reward = torch.rand(N, generator=generator, dtype=torch.float64)
    names = ("logp_old", "logp_sampler", "logp_ref")
    return {"logp": logp, **dict(zip(names, near, strict=True)), "mask": mask, "reward": reward}


def advantages(trainer_module, reward, scale):
    """The lines of `_generate_and_score_completions`, which cannot be called alone."""
    by_group = reward.view(-1, GROUP)
    above = reward - torch.nanmean(by_group, dim=1).repeat_interleave(GROUP)
    if scale == "group":
        std = trainer_module.nanstd(by_group, dim=1).repeat_interleave(GROUP)
        return above / (std + 1e-4)
    return above / (trainer_module.nanstd(reward) + 1e-4) if scale == "batch" else above


def loss_of(trainer, given, advantage, case):
    """TRL's loss and its gradient by the new log-probabilities."""
    logp = given["logp"].clone().requires_grad_()
    args = SimpleNamespace(
        delta=case.get("delta"), use_bias_correction_kl=case.get("unbiased_kl", False),
        sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, vespo_k_pos=2.0, vespo_k_neg=3.0,
        vespo_lambda_pos=3.0, vespo_lambda_neg=2.0, steps_per_generation=2,
    )  # fmt: skip
    gather = SimpleNamespace(gather=lambda x: x, reduce=lambda x, **_: x, num_processes=1)
    me = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_a, **_k: (logp, torch.zeros_like(logp), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, args=args, accelerator=gather,
        off_policy_mask_threshold=case.get("off_policy"),
        get_off_policy_mask=trainer.get_off_policy_mask,
        get_gamma_weights=trainer.get_gamma_weights, loss_type=case.get("loss", "grpo"),
        importance_sampling_level=case.get("ratio", "token"), beta=case.get("beta", 0.0),
        epsilon_low=case.get("epsilon_low", 0.2), epsilon_high=case.get("epsilon_high", 0.2),
        use_vllm=False, vllm_importance_sampling_correction=False,
        model=torch.nn.Identity().train(),
        current_gradient_accumulation_steps=1, max_completion_length=S + 2,
        _entropy_bonus_enabled=False, _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    zeros = torch.zeros(N, 2, dtype=torch.long)
    batch = {
        "prompt_ids": zeros, "prompt_mask": zeros + 1, "completion_mask": given["mask"],
        "completion_ids": torch.zeros(N, S, dtype=torch.long), "advantages": advantage,
        "old_per_token_logps": given["logp_old"], "ref_per_token_logps": given["logp_ref"],
        "sampling_per_token_logps": given["logp_sampler"],
        "num_items_in_batch": torch.tensor(41.0),
    }  # fmt: skip
    loss = trainer._compute_loss(me, None, batch)
    loss.backward()
    return {"loss": loss.item(), "gradient": logp.grad.tolist()}


def divergences(generator):
    """TRL's generalized_jsd_loss (GKD) and its gradient by the student's logits."""
    from trl.experimental.gkd import GKDTrainer

    def logits():
        return 2 * torch.randn(1, 5, 4, generator=generator, dtype=torch.float64)

    student, teacher = logits(), logits()
    labels = torch.tensor([[1, -100, 2, 0, -100]])
    found = []
    for weight in (0.0, 0.3, 0.5, 1.0):
        for temperature in (1.0, 2.5):
            x = student.clone().requires_grad_()
            loss = GKDTrainer.generalized_jsd_loss(
                x, teacher, labels=labels, beta=weight, temperature=temperature
            )
            loss.backward()
            case = {"weight": weight, "temperature": temperature, "loss": loss.item()}
            found.append(case | {"gradient": x.grad[0].tolist()})
    return {
        "student": student[0].tolist(), "teacher": teacher[0].tolist(),
        "mask": (labels[0] != -100).double().tolist(), "cases": found,
    }  # fmt: skip


def main():
    """Write the file beside this one."""
    import trl
    import trl.trainer.grpo_trainer as module

    given = inputs(torch.Generator().manual_seed(5))
    found = {
        "trl": trl.__version__, "torch": torch.__version__, "group": GROUP, "longest": S + 2,
        "tokens_per_update": 41.0 / 2, "inputs": {k: v.tolist() for k, v in given.items()},
        "advantages": {s: advantages(module, given["reward"], s).tolist()
                       for s in ("group", "batch", "none")},
    }  # fmt: skip
    advantage = torch.tensor(found["advantages"]["group"], dtype=torch.float64)
    found["cases"] = {
        name: {"rule": case} | loss_of(module.GRPOTrainer, given, advantage, case)
        for name, case in CASES.items()
    }
    found["gkd"] = divergences(torch.Generator().manual_seed(6))
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path.name}: {len(CASES)} cases of TRL {trl.__version__}\n")


if __name__ == "__main__":
    main()
