"""Pages of policies that are made here: a drone's with a model of states, and one of an environment without a drone."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.runs.flights import track_geometry
from s5wm.types import Reward, TimeStep
from s5wm.viewer.content import track_content
from s5wm.viewer.episode import Episode
from s5wm.viewer.pack import packed, sprite

ROWS, DT, SAMPLES = 120, 0.02, 3


def episode(obs: np.ndarray) -> Episode:
    """Rows of zeros but for the observations, rewarded by one each."""
    rows = len(obs)
    flags = np.zeros(rows, bool)
    last = flags.copy()
    last[-1] = True
    first = flags.copy()
    first[0] = True
    ends = jnp.asarray(last)
    return Episode(
        dt=DT,
        timestep=TimeStep(jnp.asarray(obs), None, Reward(jnp.ones(rows)), jnp.asarray(first), ends, ends),
        action=np.zeros((rows, 1), np.float32),
        snapshot={},
        metrics={"solved": 1.0},
        outcome=None,
        ending="terminated",
    )


def panel(section: str, title: str, values: np.ndarray, band: np.ndarray | None = None) -> dict:
    return {
        "section": section,
        "title": title,
        "unit": "m",
        "real": packed(values),
        "also": None,
        "also_title": "",
        "band": None if band is None else packed(band),
    }


def flying(name: str, phase: float) -> dict:
    """A drone that circles, the futures imagined of it, and a camera."""
    t = np.arange(ROWS) * DT
    way = np.stack([4 * np.cos(t + phase), 4 * np.sin(t + phase), 2 + 0.5 * np.sin(3 * t)], axis=-1)
    moment, ahead = np.arange(0, ROWS - 1, 5), np.arange(0, 21, 2)
    row = moment[:, None] + ahead
    inside = (row < ROWS)[:, None, :, None]
    noise = np.random.default_rng(0).normal(size=(len(moment), SAMPLES, 1, 3)) * 0.02 * ahead[:, None]
    future = np.where(inside, way[np.minimum(row, ROWS - 1)][:, None] + noise, np.nan)
    band = np.stack([future[..., 0].min(1), np.median(future[..., 0], 1), future[..., 0].max(1)], axis=1)
    images = np.zeros((ROWS, 8, 8, 3), np.uint8) + np.arange(ROWS, dtype=np.uint8)[:, None, None, None]
    predicted = np.repeat(np.repeat(images[moment][:, None], 3, 1)[..., None, :, :, :], 1, 2)
    return {
        "name": name,
        "facts": "made by a test",
        "note": "",
        "dt": DT,
        "rows": ROWS,
        "outcome": [["return", "1.00"], ["laps", "5.00 s"], ["end", "time limit"]],
        "panels": [
            panel("position", "position x", way[:, 0], band),
            panel("action", "thrust", np.sin(9 * t)),
        ],
        "flight": {
            "position": packed(way),
            "attitude": packed(np.tile([1.0, 0.0, 0.0, 0.0], (ROWS, 1))),
            "speed": packed(4 + np.sin(t)),
            "target": [int(r // 40) for r in range(ROWS)],
        },
        "futures": {"moment": moment.tolist(), "ahead": ahead.tolist(), "position": packed(future)},
        "camera": {
            "real": sprite(images),
            "predicted": {
                "sprite": sprite(predicted.reshape(-1, 8, 8, 3)),
                "moment": moment.tolist(),
                "ahead": [0, 10, 20],
                "how": "made by a test",
            },
        },
    }


def page_content(*policies: dict) -> dict:
    """Of drones on the Split-S."""
    track = track_geometry(RacingConfig(track=SplitSConfig()).build().track)
    return {
        "task": "race/split-s",
        "version": "0",
        "seed": 0,
        "course": track_content(track),
        "policies": list(policies),
    }


def written(folder: Path, page: str) -> Path:
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    return file
