"""A Gantt chart shows every action once, where and when the timetable has it."""

import pytest
from matplotlib.patches import Rectangle

from minids.dist.schedules import SCHEDULES, parts, play
from minids.lab.figures_pipeline import gantt, gpu_load, waiting


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
def test_every_action_is_a_box_at_its_time(name):
    table = play(SCHEDULES[name](4, 8))
    figure = gantt(table, message="m", source="s")
    boxes = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    assert len(boxes) == sum(len(list(parts(event.action))) for event in table.events)
    drawn = {(b.get_x(), b.get_x() + b.get_width(), round(b.get_y())) for b in boxes}
    assert drawn == {(e.start, e.end, e.rank) for e in table.events}
    assert f"{table.share:.0%}" in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_bars_start_at_zero():
    for figure in (
        waiting({"gpipe": 0.2, "zb1p": 0.1}, message="m", source="s"),
        gpu_load([2.0, 0.5], [1.0, 1.0], message="m", source="s"),
    ):
        for ax in figure.axes:
            assert min(*ax.get_xlim()) <= 0 or min(*ax.get_ylim()) <= 0
