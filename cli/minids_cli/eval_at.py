"""`minids eval RUN --at k …`: accuracy against tokens spent on a problem, in six ways.

pass (a judge that knows), vote (the commonest answer), confidence (the likeliest completion by the
model's own account), learned (a score fitted on other problems), budget (thinking closed early),
wait (thinking reopened).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minids.config import coerce
from minids.errors import UserError
from minids_cli import show

NAMES = {
    "pass": "pass@k: a verifier picks", "vote": "majority vote",
    "confidence": "best of k by log-probability", "learned": "best of k by a learned score",
    "budget": "budget of thinking", "wait": "“wait” instead of its end",
}  # fmt: skip
LIMITS = {
    "problems": (2, 100_000), "samples": (1, 1024), "learned": (0, 100_000),
    "seed": (0, (1 << 31) - 1),
}  # fmt: skip
FLAGS = (
    "task",
    "problems",
    "samples",
    "learned",
    "temperature",
    "budgets",
    "waits",
    "plot",
    "seed",
)


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of this part."""
    group = parser.add_argument_group("test-time compute")
    group.add_argument("--at", metavar="K", nargs="+", help="tries of a problem, e.g. --at 1 4 16")
    group.add_argument("--task", metavar="T", help="tasks with levels (default: addition:3)")
    group.add_argument("--problems", metavar="N", help="held-out problems of each (default: 200)")
    group.add_argument("--samples", metavar="N", help="completions of each (default: twice K)")
    group.add_argument("--learned", metavar="N", help="problems to fit a score on (default: none)")
    group.add_argument("--temperature", metavar="T", help="of the tries (default: 1.0)")
    group.add_argument("--budgets", metavar="N,N", help="tokens of thinking (4,8,16,24,32,48)")
    group.add_argument("--waits", metavar="N,N", help="times thinking is reopened (1,2)")
    group.add_argument("--plot", metavar="FILE", help="the frontier as a new PNG file")
    group.add_argument("--seed", metavar="N", help="of the samples (default: 1)")


def check_unused(args: argparse.Namespace) -> None:
    """These flags mean nothing without --at."""
    for name in FLAGS:
        if getattr(args, name) is not None:
            raise UserError(f"--{name}", "given without --at", "--at 1 4 16")


def run(args: argparse.Namespace) -> int:
    """Check, sample once for all k, think within budgets, show."""
    from minids.reason.settings import parse_tasks
    from minids.runs import find_run

    ks = sorted({number("--at", k, 1, 512) for text in args.at for k in text.split(",")})
    given = {
        name: number(f"--{name}", getattr(args, name) or str(default), *LIMITS[name])
        for name, default in (
            ("problems", 200), ("samples", min(1024, 2 * ks[-1])), ("learned", 0), ("seed", 1)
        )
    }  # fmt: skip
    if given["samples"] < ks[-1]:
        what = f"{given['samples']} completions cannot hold {ks[-1]} tries"
        raise UserError("--samples", what, f"{ks[-1]} and more")
    temperature = coerce("--temperature", args.temperature or "1.0", float)
    if not 0.01 <= temperature <= 2:
        raise UserError("--temperature", f"{temperature} is out of range", "0.01 … 2.0")
    budgets = numbers("--budgets", args.budgets or "4,8,16,24,32,48", 0, 100_000)
    waits = numbers("--waits", args.waits or "1,2", 0, 32)
    tasks = parse_tasks(args.task or "addition:3")
    plot = Path(args.plot) if args.plot else None
    if plot and (plot.exists() or not plot.parent.is_dir()):
        what = "exists already" if plot.exists() else f"{plot.parent} is no folder"
        raise UserError("--plot", f"{plot}: {what}", "a new file")
    folder = find_run(args.run_folder)
    rule = given | {"temperature": temperature, "budgets": budgets, "waits": waits}
    return measure(args, folder, tasks, ks, rule, plot)


def number(flag: str, text: str, low: int, high: int) -> int:
    """A whole number in its range."""
    found = coerce(flag, text, int)
    if not low <= found <= high:
        raise UserError(flag, f"{found} is out of range", f"{low} … {high:,}")
    return found


def numbers(flag: str, text: str, low: int, high: int) -> list[int]:
    """Several of them, in order."""
    return sorted({number(flag, part, low, high) for part in text.split(",")})


def measure(args: Any, folder: Path, tasks: Any, ks: Any, rule: Any, plot: Path | None) -> int:
    """Everything that needs torch."""
    from minids.reason.compute import points_at
    from minids.reason.passrate import attempt
    from minids.reason.tasks import held_out_set
    from minids.runs import all_cores, open_run

    trained = open_run(folder)
    problems = [p for name, level in tasks for p in held_out_set(name, level, rule["problems"])]
    with all_cores():
        tried = attempt(
            trained.model, trained.tokenizer, problems, samples=rule["samples"],
            temperature=rule["temperature"], seed=rule["seed"],
        )  # fmt: skip
        points = points_at(tried, rule["samples"], ks)
        if rule["learned"]:
            points += by_learned(trained, tried, tasks, ks, rule)
        points += within_budgets(trained, problems, rule)
    rows = [(p, interval(p.values)) for p in points]
    found = [
        {"way": p.way, "k": p.k, "tokens": p.tokens, "share": s.value, "low": s.low, "high": s.high}
        for p, s in rows
    ]
    title = f"{folder}: {len(problems)} held-out problems, temperature {rule['temperature']:g}"
    if plot:
        draw(rows, plot, title)
    if args.json:
        show.emit_json({"run": str(folder), "problems": len(problems), "points": found})
        return 0
    cells = [
        (NAMES[p.way], p.k, f"{p.tokens:.0f}", f"{s.value:.1%}", f"{s.low:.1%} – {s.high:.1%}")
        for p, s in rows
    ]
    note = f"figure: {plot}" if plot else ""
    show.table(title, ["way", ">k", ">tokens", ">right", "95 % interval"], cells, note=note)
    return 0


def by_learned(trained: Any, tried: Any, tasks: Any, ks: Any, rule: Any) -> list[Any]:
    """The best of k by a score that was fitted on problems of training."""
    from minids.reason.compute import chosen_at
    from minids.reason.passrate import attempt
    from minids.reason.scorer import fit, last_states
    from minids.reason.tasks import problem

    model, tokenizer = trained.model, trained.tokenizer
    seed, n = rule["seed"], rule["learned"]
    seen = [problem(name, level, seed, i) for name, level in tasks for i in range(n)]
    known = attempt(
        model, tokenizer, seen, samples=rule["samples"], temperature=rule["temperature"],
        seed=seed + 1,
    )  # fmt: skip
    right = [a.reward.verdict.right for a in known]
    score = fit(last_states(model, tokenizer, known), right)
    scores = score(last_states(model, tokenizer, tried))
    return chosen_at(tried, scores, rule["samples"], ks, "learned")


def within_budgets(trained: Any, problems: Any, rule: Any) -> list[Any]:
    """Thinking closed after each budget; then reopened, within the longest of them."""
    from minids.reason.budget import think_for
    from minids.reason.compute import Point

    longest = max(rule["budgets"])
    plans = [("budget", b, b, 0) for b in rule["budgets"]]
    plans += [("wait", w, longest, w) for w in rule["waits"]]
    found = []
    for way, k, budget, waits in plans:
        tried = think_for(
            trained.model, trained.tokenizer, problems, budget=budget, waits=waits,
            temperature=rule["temperature"], seed=rule["seed"],
        )  # fmt: skip
        tokens = sum(len(a.tokens) for a in tried) / len(tried)
        found.append(Point(way, k, tokens, [float(a.reward.verdict.right) for a in tried]))
    return found


def interval(values: list[float]) -> Any:
    """Wilson's for single tries, else resampled problems."""
    from minids.evaluate import Interval, wilson
    from minids.reason.compute import bootstrap

    if all(v in (0.0, 1.0) for v in values):
        return wilson(round(sum(values)), len(values))
    return Interval(*bootstrap(values))


def draw(rows: Any, path: Path, title: str) -> None:
    """The frontier."""
    from types import SimpleNamespace

    from minids.plot import save
    from minids.plot_reason import frontier

    curves: dict[str, list[Any]] = {}
    for p, share in rows:
        curves.setdefault(NAMES[p.way], []).append(SimpleNamespace(tokens=p.tokens, share=share))
    for points in curves.values():
        points.sort(key=lambda point: point.tokens)
    best = max(rows, key=lambda row: row[1].value)
    message = (
        f"{best[1].value:.0%} with {best[0].tokens:.0f} tokens a problem: {NAMES[best[0].way]}"
    )
    save(frontier(curves, message=message, source=title), path)
