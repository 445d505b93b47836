"""`minids distill TEACHER --versus rl`: R1's experiment on one's own student, with intervals."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from minids import config
from minids.config import coerce
from minids.errors import UserError
from minids_cli import show


def run(args: argparse.Namespace, plan: Any, changes: dict[str, str]) -> int:
    """Check, let both arms run over all seeds, say what the data supports."""
    from minids.runs import find_run

    for name in ("student", "resume", "way", "steps", "seed"):
        if getattr(args, name) is not None:
            hint = "called again with the same --out it goes on" if name == "resume" else ""
            raise UserError(f"--{name}", "given together with --versus", "without it", hint=hint)
    minutes = coerce("--minutes", args.minutes or 2, float)
    if not 0.01 <= minutes <= 10_000:
        raise UserError("--minutes", f"{minutes} is out of range", "0.01 … 10,000")
    seeds = coerce("--seeds", args.seeds or 3, int)
    if not 1 <= seeds <= 10:
        raise UserError("--seeds", f"{seeds} is out of range", "1 … 10")
    teacher = find_run(args.teacher)
    tables = config.to_dict(config.load(args.config or "r1-student"))
    changes = {n: v for n, v in changes.items() if n not in ("max_minutes", "seed")}
    tables["data"] |= {"name": "text", "path": "examples"}
    tables["train"] |= {"workers": 1, "max_steps": 120, "warmup_steps": 5} | changes
    cfg = config.build(tables, tables["name"])
    out = Path(args.out or "runs/versus")
    if out.exists() and (not out.is_dir() or foreign(out)):
        raise UserError("--out", f"{out} holds something else", "a new folder, or one of --versus")
    return experiment(args, plan, cfg, teacher, out, minutes, seeds)


def foreign(out: Path) -> bool:
    """Whether a folder holds files that no such experiment made."""
    known = ("versus.json", "versus.md", "versus.png")
    return any(p.name not in known and "-seed" not in p.name for p in out.iterdir())


def experiment(args, plan, cfg, teacher: Path, out: Path, minutes: float, seeds: int) -> int:
    """Everything that needs torch."""
    from minids import plot_reason
    from minids.plot import save
    from minids.reason.settings import RLConfig
    from minids.reason.versus import Contest, Interrupted, contest, verdict
    from minids.runs import open_run

    taught = open_run(teacher)
    model = dataclasses.replace(cfg.model, vocab_size=taught.tokenizer.vocab_size)
    rl = RLConfig(
        task=plan.task, prompts=24, group=12, max_new_tokens=plan.max_new_tokens, lr=8e-4,
        min_lr_ratio=0.1, eval_every=0, save_every=0,
    )  # fmt: skip
    rules = Contest(dataclasses.replace(cfg, model=model), plan, rl, minutes, seeds)
    say = show.warn if args.json else lambda text: print(text, flush=True)
    try:
        arms = contest(rules, taught.model, taught.tokenizer, out, say)
    except Interrupted as stopped:
        say("stopped, saved; the same command goes on")
        return stopped.code
    found = verdict(arms)
    save(plot_reason.versus(arms, found, source=source(plan, minutes, seeds)), out / "versus.png")
    (out / "versus.md").write_text(text(arms, found, plan, minutes), encoding="utf-8")
    if args.json:
        show.emit_json({"says": found.says, "arms": [a._asdict() for a in arms]})
        return 0
    show.table(found.says, HEAD, rows_of(arms), note=f"report: {out / 'versus.md'}")
    return 0


HEAD = ["arm", ">seed", ">held out", ">tokens", ">steps", ">seconds", ">CPU seconds"]


def rows_of(arms: Any) -> list[tuple[Any, ...]]:
    """A row an arm."""
    return [
        (a.arm, a.seed, f"{a.hits / a.n:.1%}", f"{a.tokens:.0f}", a.steps, f"{a.seconds:.0f}",
         f"{a.cpu_seconds:.0f}")
        for a in arms
    ]  # fmt: skip


def source(plan: Any, minutes: float, seeds: int) -> str:
    """Where the figure comes from."""
    return f"minids distill --versus rl · {plan.task}, {minutes:g} minutes an arm, {seeds} seeds"


def text(arms: Any, found: Any, plan: Any, minutes: float) -> str:
    """The report as Markdown."""
    names = [name.lstrip(">") for name in HEAD]
    return "\n".join(
        [
            f"# Distil or reward a small student: {plan.task}",
            "",
            f"**{found.says}**",
            "",
            "![both arms of every seed](versus.png)",
            "",
            "| " + " | ".join(names) + " |",
            "|" + "---|" * len(names),
            *("| " + " | ".join(map(str, row)) + " |" for row in rows_of(arms)),
            "",
            f"Each seed pre-trains one student (*start*) on text that is seldom right; from there "
            f"both arms get {minutes:g} minutes of the same machine. The distilled arm's minutes "
            "include the teacher's writing; what the teacher cost before is not counted.",
            "",
            "## What this does not show",
            "",
            "How both compare where RL runs until it stops improving, on another task, with a "
            "student too small to follow its teacher, or with settings tuned for each arm. R1's "
            "report compares 32 billion parameters after more than 10,000 steps of RL.",
            "",
        ]
    )
