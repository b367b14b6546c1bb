"""One panel for every part over parameters, and one more for each that was timed at several lengths."""

import pytest

from s5wm.plots.updates import draw_updates

PARTS = ("world_model", "actor_critic", "update")


def timed(size, length, parts):
    def own(factor):
        times = {f"{part}_ms": 2.0 * factor * length for part in parts}
        samples = {f"{part}_samples_ms": [1.0 * factor * length, 3.0 * factor * length] for part in parts}
        return {"params": {"cpu": 200_000, "1m": 700_000}[size], **times, **samples}

    return {"size": size, "length": length, "agents": {"s5wm": own(1), "dreamerv3": own(2)}}


@pytest.mark.parametrize(("swept", "panels"), [((), 3), (PARTS[:1], 4), (PARTS, 6)])
def test_panels(swept, panels):
    results = [timed("cpu", 32, PARTS), timed("1m", 64, PARTS)]
    results += [timed("cpu", length, swept) for length in (16, 64)] if swept else []
    again = timed("cpu", 32, swept)  # swept, too: the first measurement is drawn
    again["agents"] = {
        name: {**own, **{f"{part}_samples_ms": [9e3] for part in swept}}
        for name, own in again["agents"].items()
    }
    results += [again] if swept else []
    figure = draw_updates("a device", results)
    assert len(figure.axes) == panels
    over_length = [axes for axes in figure.axes if axes.get_xlabel() == "chunk length T"]
    assert len(over_length) == len(swept)
    for axes in over_length:
        first = axes.get_lines()[0]  # S5WM at size cpu
        assert first.get_xydata().tolist() == [[16, 32], [32, 64], [64, 128]]
