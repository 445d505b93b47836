"""Take one mechanism out, train again, say what the data supports: one claim, seeds, a card.

Every arm is a run folder of its own from the same config but for the fields that are the claim, on
the same text in the same order, scored on the same held-out documents. Seeds are paired: what is
reported is the mean difference to the first arm within a seed, with Student's interval, and the
sentence follows from the interval, not from the hope.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minids.ablate.questions import QUESTIONS
from minids.config import RunConfig
from minids.plot import apart_from_first, save

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, 1 … 9 degrees


class Paired(NamedTuple):
    """Mean difference to the first arm over seeds, as a share of it, with its 95 % interval."""

    mean: float
    low: float
    high: float
    seeds: list[float]


def paired(mine: Sequence[float], first: Sequence[float]) -> Paired:
    """Shares by which `mine` exceed `first`, seed by seed; one seed has no interval."""
    apart = [a / b - 1 for a, b in zip(mine, first, strict=True)]
    n, mean = len(apart), sum(apart) / len(apart)
    if n == 1:
        return Paired(mean, -math.inf, math.inf, apart)
    spread = math.sqrt(sum((x - mean) ** 2 for x in apart) / (n - 1))
    half = STUDENT[n - 2] * spread / math.sqrt(n)
    return Paired(mean, mean - half, mean + half, apart)


def sentence(arm: str, first: str, found: Paired) -> str:
    """What the data supports."""
    if not math.isfinite(found.low):
        return f"{arm}: {found.mean:+.2%} against {first} in one seed, which supports nothing."
    within = f"{found.mean:+.2%}, 95 % {found.low:+.2%} … {found.high:+.2%}"
    if found.low > 0:
        return f"{arm} needs more bits than {first} ({within})."
    if found.high < 0:
        return f"{arm} needs fewer bits than {first} ({within})."
    return f"{arm} and {first} are not told apart ({within})."


def card(
    name: str, cfg: RunConfig, found: Sequence[dict[str, Any]], machine: str
) -> dict[str, Any]:
    """All that the card says, as data."""
    question = QUESTIONS[name]
    arms: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        arms.setdefault(record["arm"], []).append(record)
    first, rows, says = next(iter(arms)), [], []
    base = [r["bpb"] for r in arms[first]]
    for arm, records in arms.items():
        bpb = [r["bpb"] for r in records]
        apart = paired(bpb, base)
        rows.append(
            {
                "arm": arm,
                "bpb": sum(bpb) / len(bpb),
                "seeds": bpb,
                **({} if arm == first else {"apart": apart._asdict()}),
                **{k: records[-1][k] for k in ("parameters", "active", "cache", "imbalance")},
            }
        )
        if arm != first:
            says.append(sentence(arm, first, apart))
    return {
        "claim": question.claim,
        "question": name,
        "config": cfg.name,
        "steps": cfg.train.max_steps,
        "tokens": found[0]["tokens"],
        "seeds": [r["seed"] for r in arms[first]],
        "floor_bpb": found[0]["floor_bpb"],
        "rows": rows,
        "says": says,
        "seconds": sum(r["seconds"] for r in found),
        "machine": machine,
    }


def figure(found: dict[str, Any]):
    """Every arm's difference to the first, a dot a seed, the interval as a bar."""
    rows = [r for r in found["rows"] if "apart" in r]
    first = found["rows"][0]["arm"]
    return apart_from_first(
        name=[r["arm"] for r in rows],
        seeds=[r["apart"]["seeds"] for r in rows],
        interval=[(r["apart"]["low"], r["apart"]["high"]) for r in rows],
        first=first,
        message=found["says"][0].partition(" (")[0],
        source=f"minids ablate {found['question']} · {found['config']}, {found['steps']} steps, "
        f"{len(found['seeds'])} seeds",
    )


def write(found: dict[str, Any], out: Path) -> Path:
    """card.json, card.png, card.md → the last."""
    (out / "card.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    save(figure(found), out / "card.png")
    path = out / "card.md"
    path.write_text(text(found), encoding="utf-8")
    return path


def text(found: dict[str, Any]) -> str:
    """The card as Markdown."""
    head = [
        "arm",
        "bits/byte",
        "against the first",
        "parameters",
        "at work",
        "cache a token",
        "MaxVio",
    ]
    lines = [
        f"# {found['claim']}",
        "",
        *(f"**{said}**" for said in found["says"]),
        "",
        f"`minids ablate {found['question']}`: {found['config']}, {found['steps']} steps, "
        f"{found['tokens']:,} tokens a run, seeds {', '.join(map(str, found['seeds']))}.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for r in found["rows"]:
        apart = r.get("apart")
        within = (
            ""
            if not apart or len(apart["seeds"]) < 2
            else (f" ({apart['low']:+.2%} … {apart['high']:+.2%})")
        )
        cells = [
            r["arm"],
            f"{r['bpb']:.4f}",
            f"{apart['mean']:+.2%}{within}" if apart else "",
            f"{r['parameters']:,}",
            f"{r['active']:,}",
            f"{r['cache']:,.0f}",
            f"{r['imbalance']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    floor = f" The exact floor is {found['floor_bpb']:.4f}." if found["floor_bpb"] else ""
    lines += [
        "",
        "![difference of each arm](card.png)",
        "",
        "Bits per byte of the same held-out documents for every run; differences are within a "
        f"seed, intervals Student's over seeds.{floor}",
        "",
        "## What this does not show",
        "",
        "How the arms compare at another size, on other text, after more steps, or with settings "
        "tuned for each of them: all share the first arm's learning rate. Seeds change the first "
        "weights, not the text.",
        "",
        f"{found['seconds'] / 60:.0f} minutes on {found['machine']}.",
    ]
    return "\n".join(lines) + "\n"
