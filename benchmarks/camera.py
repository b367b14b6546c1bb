"""Draws what the drone of ``race/figure-8`` sees: a lap along the time-optimal path, and gates from everywhere.

Writes ``docs/images/figure-8-camera.png``:

    python benchmarks/camera.py
"""

import argparse
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from checkout import ROOT

from s5wm.envs.racing.camera import CameraConfig, Pose, render
from s5wm.envs.racing.scene import build_scene
from s5wm.envs.racing.track import Figure8Config
from s5wm.plots.onboard import draw_onboard
from s5wm.plots.style import house_style

LAPS = ROOT / "tests/data/racing_reference_laps.npz"
MOMENTS = 24

Views = tuple[np.ndarray, np.ndarray, list[str]]


def lap() -> Views:
    """Positions, attitudes and times along the lap: thrust gives the tilt, the nose points along the flight."""
    with np.load(LAPS, allow_pickle=False) as data:
        t, pos, vel = (data[f"figure-8_fig8A/{name}"].astype(np.float64) for name in ("t", "pos", "vel"))
    thrust = np.gradient(vel, t, axis=0) + np.array([0.0, 0.0, 9.81])
    rows = np.linspace(0, len(t) - 1, MOMENTS, endpoint=False).astype(int)
    quats = [_attitude(thrust[i], vel[i]) for i in rows]
    return pos[rows], np.array(quats), [f"{t[i]:.2f} s, {np.linalg.norm(vel[i]):.1f} m/s" for i in rows]


def stills() -> Views:
    """Level poses about the gates."""
    views = (
        ((0.0, -4.0, 1.2), 90.0, "4 m before the centre gate"),
        ((0.0, -0.9, 1.4), 90.0, "0.9 m before it"),
        ((0.0, 3.5, 1.2), -90.0, "from behind"),
        ((3.5, -0.6, 1.2), 90.0, "edge-on from its right"),
        ((-8.5, 0.0, 1.5), 0.0, "8.5 m away"),
        ((0.85, -0.1, 1.4), 90.0, "inside its rim"),
        ((-3.2, -5.0, 1.2), 60.0, "left lobe, outside"),
        ((3.0, 5.0, 1.2), -60.0, "right lobe, outside"),
        ((0.0, 2.0, 4.0), 200.0, "high"),
        ((0.0, -3.0, 0.2), 70.0, "low"),
        ((8.8, 0.0, 1.5), 0.0, "0.1 m from a wall"),
        ((7.5, 4.5, 1.5), 215.0, "from a corner"),
    )
    yaws = np.deg2rad([yaw for _, yaw, _ in views])
    quats = np.stack([np.cos(yaws / 2), 0 * yaws, 0 * yaws, np.sin(yaws / 2)], axis=-1)
    return np.array([pos for pos, _, _ in views]), quats, [text for *_, text in views]


def _attitude(thrust: np.ndarray, forward: np.ndarray) -> np.ndarray:
    up = thrust / np.linalg.norm(thrust)
    left = np.cross(up, forward)
    left /= np.linalg.norm(left)
    axes = np.stack([np.cross(left, up), left, up], axis=-1)
    w = 0.5 * math.sqrt(max(1.0 + np.trace(axes), 1e-9))
    twice = axes - axes.T
    return np.array([w, twice[2, 1] / (4 * w), twice[0, 2] / (4 * w), twice[1, 0] / (4 * w)])


def main() -> None:
    """Render, draw and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/figure-8-camera.png")
    options = parser.parse_args()
    config = CameraConfig()
    scene = build_scene(Figure8Config().build(), equal_colours=False)
    shoot = jax.jit(jax.vmap(lambda pose: render(config, scene, pose)))
    rows = []
    for name, (pos, quat, texts) in (("A lap", lap()), ("Still, level", stills())):
        pose = Pose(jnp.asarray(pos, jnp.float32), jnp.asarray(quat, jnp.float32))
        rows.append((name, np.asarray(shoot(pose)), texts))
    facts = f"{config.pixels} x {config.pixels} pixels, {config.fov_deg:.0f} deg, tilted up {config.uptilt_deg:.0f} deg"
    with house_style():
        figure = draw_onboard(rows, "What the drone sees", f"race/figure-8   ·   {facts}")
        figure.savefig(options.output, dpi=100)


if __name__ == "__main__":
    main()
