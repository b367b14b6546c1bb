import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.diagnostics.diagnosis import GroupErrors
from s5wm.envs.groups import MOST, Group, number_groups
from s5wm.envs.hover import HOVER, HoverConfig
from s5wm.envs.quadrotor import quaternion
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.evaluation import OBSERVED, RACING, race_groups
from s5wm.envs.racing.observation import Layout, View, observe
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.envs.toys import DoubleIntegratorConfig


def flying(
    pos: list[float], vel: list[float], turn: list[float], omega: list[float], layout: Layout = "B"
) -> jnp.ndarray:
    quad = QuadState(
        pos_w=jnp.asarray(pos),
        vel_w=jnp.asarray(vel),
        quat=quaternion.exp(jnp.asarray(turn)),
        omega_b=jnp.asarray(omega),
        rotor_speed=jnp.zeros(4),
    )
    return observe(
        layout,
        SplitSConfig().build(),
        View(quad=quad, target=jnp.asarray(2), action=jnp.zeros(4), clearance=jnp.array(0.6)),
    )


def test_racing_errors_are_in_physical_units() -> None:
    still = flying([0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.3], [0.0, 0.0, 0.0])
    moved = flying([3.0, 4.0, 2.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.8], [0.0, 0.0, -7.0])
    errors = {group.name: float(group.error(moved, still)) for group in RACING}
    expected = {"position": 5.0, "velocity": 2.0, "attitude": np.rad2deg(0.5), "body_rates": 7.0, "gate": 5.0}
    assert errors == pytest.approx(expected | {"next_gate": 0.0}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 1.0, 3.1])
def test_an_angle_survives_decoding_that_is_no_rotation(angle: float) -> None:
    (group,) = (group for group in HOVER if group.kind == "rotation")

    def columns(turn: list[float]) -> jnp.ndarray:
        rotation = quaternion.to_matrix(quaternion.exp(jnp.asarray(turn)))
        return jnp.concatenate([jnp.zeros(6), rotation[:, 0], rotation[:, 1]])

    real = columns([0.0, 0.0, 0.0])
    stretched = columns([angle, 0.0, 0.0]) * jnp.asarray([1.0] * 6 + [1.7] * 3 + [0.6] * 3)
    assert group.error(stretched, real) == pytest.approx(np.rad2deg(angle), rel=2e-3, abs=1e-3)


@pytest.mark.parametrize("layout", ["B", "C"])
def test_groups_of_a_layout_are_where_it_writes_them(layout: Layout) -> None:
    """A flight moved by a step changes those numbers alone, by that step in the group's unit."""
    groups = {group.name: group for group in OBSERVED[layout]}

    def seen(pos: list[float], vel: list[float], omega: list[float]) -> jnp.ndarray:
        return flying(pos, vel, [0.0, 0.0, 0.0], omega, layout)

    still = seen([0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    faster = seen([0.0, 0.0, 2.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0])
    turning = seen([0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [0.0, -7.0, 0.0])
    aside = seen([0.0, 3.0, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    for moved, name, step in ((faster, "velocity", 2.0), (turning, "body_rates", 7.0)):
        errors = {each: float(group.error(moved, still)) for each, group in groups.items()}
        assert errors == pytest.approx(dict.fromkeys(groups, 0.0) | {name: step}, abs=1e-3)
    assert float(groups["gate"].error(aside, still)) == pytest.approx(3.0, rel=1e-5)
    assert float(groups["velocity"].error(aside, still)) == 0.0
    relative = layout == "B"  # its second gate is told from the first, that of layout C from the drone
    assert float(groups["next_gate"].error(aside, still)) == pytest.approx(0.0 if relative else 3.0, abs=1e-5)


def test_the_error_of_a_gate_in_layout_a_is_that_of_a_corner() -> None:
    """All four corners move by as much as the drone does, whatever its attitude."""
    groups = {group.name: group for group in OBSERVED["A"]}
    still, aside = (
        flying([0.0, y, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.4], [0.0, 0.0, 0.0], "A") for y in (0.0, 3.0)
    )
    assert float(groups["gate"].error(aside, still)) == pytest.approx(3.0, rel=1e-5)
    assert float(groups["velocity"].error(aside, still)) == 0.0
    spread = GroupErrors.measure(
        (groups["gate"],), jnp.stack([still, aside]), jnp.stack([still, aside]), jnp.ones(2, bool)
    )
    assert float(spread.deviation[0]) == pytest.approx(1.5, rel=1e-5)  # from the mean of both


def test_groups_are_chosen_by_the_environment() -> None:
    assert RacingConfig().state_groups("observation") == race_groups("B", "B")
    assert HoverConfig().state_groups("privileged") is HOVER
    assert DoubleIntegratorConfig().state_groups("observation") is None


def test_every_number_without_a_name_is_measured_and_very_many_share_a_group() -> None:
    first, second = number_groups(2)
    assert first == Group(name="number_0", start=0, stop=1) and second.name == "number_1"
    assert [group.name for group in number_groups(2, ("place", "speed"))] == ["place", "speed"]
    many = number_groups(100)
    assert len(many) == MOST + 1
    assert [place for group in many for place in range(group.start, group.stop)] == list(range(100))


def test_hover_groups_are_in_physical_units() -> None:
    env = HoverConfig().build()
    obs = jnp.concatenate([jnp.asarray([2.0, 0, 0]) / 3, jnp.asarray([0, 2.0, 0]) / 5, jnp.zeros(9)])
    scales = {group.name: float(group.error(obs, 0.0 * obs)) for group in HOVER[:2]}
    assert scales == pytest.approx({"position": 2.0, "velocity": 2.0})
    assert "p/3, v/5" in " ".join((type(env).__doc__ or "").split())
