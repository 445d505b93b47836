"""The live screen: it fits the terminal it is given, and its picture needs nobody."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from minids import config
from minids.train import events
from minids_cli import picture
from minids_cli.dashboard import Dashboard
from minids_cli.watch import Plain

FLOOR = 0.25
SAMPLE = "In Maplewick lived Hester, a cobbler of some patience.\n" * 9


@pytest.fixture
def watched():
    """watched(width, height) → a screen that has heard half a run."""

    def build(width, height, heard=1.0):
        file = (Path("/dev/null") if Path("/dev/null").exists() else Path("nul")).open("w")
        console = Console(file=file, width=width, height=height, force_terminal=True)
        screen = Dashboard(console)
        screen.line = lambda _text: None
        for event in story()[: round(heard * len(story()))]:
            screen(event)
        return screen

    return build


def started():
    machine = SimpleNamespace(
        device="cpu", precision="bfloat16", threads=2, workers=1, reason="measured"
    )
    values = dict.fromkeys(events.Started._fields) | {
        "cfg": config.load("tiny"), "folder": Path("runs/tiny-001"), "machine": machine,
        "parameters": 2_050_000, "max_steps": 40, "floor_bpb": FLOOR, "bytes_per_token": 4.5,
        "expected_loss": 7.3, "started_loss": 7.4, "step": 0,
    }  # fmt: skip
    return events.Started(**values)


def story():
    steps = [
        events.Step(
            step=i, loss=7.0 / i, mtp_loss=[8.0], grad_norm=0.5, lr=1e-2, tokens=4_000 * i,
            tokens_per_s=9_000.0, elapsed_s=4.0 + i, progress=i / 40, load=[[9, 1, 1, 1] * 2] * 4,
            skipped=False,
        )
        for i in range(1, 21)
    ]  # fmt: skip
    rest = [
        events.Evaluated(20, {"bpb": 0.5, "val_loss": 1.5}),
        events.Sampled(20, SAMPLE),
        events.Saved(20, Path("runs/tiny-001/checkpoints/step-00000020"), 0.1),
        events.Warned(20, "three experts of layer 2 are idle"),
    ]
    return [started(), *steps, *rest]


def text(rows):
    return ["".join(segment.text for segment in row) for row in rows]


@pytest.mark.parametrize("heard", [0.05, 0.1, 1.0])
@pytest.mark.parametrize(("width", "height"), [(100, 30), (72, 22), (160, 60), (60, 12), (20, 5)])
def test_a_screen_fits_its_terminal(watched, width, height, heard):
    rows = text(watched(width, height, heard).picture().lines)
    assert 1 <= len(rows) <= height - 1
    assert {len(row) for row in rows} == {min(width, 120)}


def test_one_screen_says_all(watched):
    said = "\n".join(text(watched(100, 30).picture().lines))
    words = ("bits per byte", "floor 0.250", "held out 0.5000", "tokens/s", "grad norm", "lr ",
             "expert load", "the model writes, step 20", "Maplewick", "50%", "3.00×",
             "three experts of layer 2 are idle")  # fmt: skip
    assert [word for word in words if word not in said] == []


def test_the_first_step_is_slow_and_does_not_count():
    lines, plain = [], Plain()
    plain.line = lines.append
    plain.started = started()
    for step in (e for e in story() if isinstance(e, events.Step)):
        assert plain.time_left(step) == ("…" if step.step == 1 else f"0:{40 - step.step:02d}")


def test_a_picture_holds_the_screen_and_no_address_but_its_own_format(watched, tmp_path):
    path = tmp_path / "screen.svg"
    picture.save(path, watched(100, 30).picture().lines, 100, "minids train --tiny")
    drawn = path.read_text(encoding="utf-8")
    assert "Maplewick" in drawn and "minids&#160;train&#160;--tiny" in drawn.replace(" ", "&#160;")
    assert set(re.findall(r"https?://[^\"')\s]+", drawn)) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }
    picture.save(tmp_path / "nowhere" / "screen.svg", [], 100, "")  # a warning, no exception
