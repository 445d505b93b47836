"""The report of a road: what a stage bought is over where it began; the bill is that of the CPU."""

import json

import pytest

from minids import road_report
from minids.count.cores import CORE, bill, rate_of
from minids.count.hardware import find
from minids.errors import UserError
from minids.reason import roads
from minids.reason.recipe import Result, tiny

SAMPLES = [["1+1", "<answer>`3`</answer>\n", "is 3, not 2"], ["2+2", "", "no tags"]]


def result(stage, hits, cpu=60.0, seconds=90.0):
    return Result(stage, hits, 500, hits // 2, 400, 20.0, seconds, 1000, SAMPLES, cpu)


@pytest.fixture
def walked():
    stages = tiny().stages
    hits = (60, 450, 480, 490, 470, 475, 400)
    return stages, [result(s.name, h) for s, h in zip(stages, hits, strict=True)]


def test_a_stage_bought_what_lies_over_where_it_began(walked):
    rows = road_report.rows_of(*walked)
    bought = {r.stage: round(100 * r.bought, 1) for r in rows}
    assert bought["2-zero"] == 78.0
    assert bought["4-rl"] == 2.0  # over the cold start, not over R1-Zero before it in the table
    assert bought["7-student"] == 80.0  # from nothing, whoever taught it
    assert rows[1].right.low < 0.9 < rows[1].right.high
    assert rows[1].right.low > 0.87


def test_the_bill_is_that_of_busy_cores_or_of_a_device_by_the_wall(walked):
    assert bill(3600) == (1.0, 10.0, 0.04)
    rows = road_report.rows_of(*walked)
    assert rows[0].bill.watt_hours == pytest.approx(60 / 3600 * CORE.watts)
    gpu = road_report.rows_of(*walked, rate_of(find("h100")))
    assert gpu[0].bill.watt_hours == pytest.approx(90 / 3600 * 700)


def test_report_has_figures_table_cost_and_samples(walked, tmp_path):
    stages, results = walked
    run = tmp_path / "2-zero"
    run.mkdir()
    lines = [{"step": i, "accuracy": i / 9, "length": 9.0 + i} for i in range(9)]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path, _ = road_report.write(tmp_path, "minids r1", stages, results, source="seed 1")
    text = path.read_text(encoding="utf-8")
    for part in ("7.0 CPU-minutes within 10.5", "10 W a busy core", "500 problems", "| all |",
                 "`<answer>′3′</answer> ` (is 3, not 2)"):  # fmt: skip
        assert part in text
    for name in ("waterfall", "growth"):
        assert (tmp_path / f"figures/{name}.png").stat().st_size > 10_000
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(road_report.HEAD) + 1}


def test_a_road_of_one_stage_and_a_road_without_samplings_have_a_report(walked, tmp_path):
    stages, results = walked
    path, _ = road_report.write(tmp_path, "short", stages[:1], results[:1], source="")
    assert "12.0%" in path.read_text(encoding="utf-8")
    assert road_report.said(stages[:2], road_report.rows_of(stages[:2], results[:2])) == (
        "Reward alone: 12% → 90.0%"
    )


def test_roads_by_name():
    large = roads.road_of("gpu")
    assert large.train.device == "cuda"
    assert [s.name for s in large.stages] == [s.name for s in tiny().stages]
    assert sum(s.minutes for s in large.stages) < 60
    assert large.student.hidden_size < large.model.hidden_size
    with pytest.raises(UserError, match="no road"):
        roads.road_of("gpo")
