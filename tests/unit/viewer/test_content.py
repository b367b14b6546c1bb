"""What a page holds is what happened, and what the world model predicted of it."""

import dataclasses
import functools as ft
import json
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.cli.viewing import View
from s5wm.diagnostics.forecast import beliefs_of
from s5wm.diagnostics.positions import positions_of
from s5wm.envs.quadrotor.quaternion import to_matrix
from s5wm.envs.quadrotor.state import QuadState
from s5wm.envs.racing.observation import View as RaceView
from s5wm.envs.racing.observation import observe
from s5wm.envs.racing.positions import pose_from_layout_c
from s5wm.envs.racing.task import RacingConfig
from s5wm.envs.racing.track import SplitSConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, PresetName
from s5wm.experiments.trained import load_agent
from s5wm.training.config import TrainConfig
from s5wm.viewer.content import _layout, _panels, policy_content, view_content
from s5wm.viewer.episode import Episode, run_episode
from s5wm.viewer.futures import FuturesConfig, predict_futures
from s5wm.viewer.pack import unpacked
from s5wm.viewer.page import page_of
from s5wm.viewer.panels import state_panels, value_panel
from s5wm.viewer.server import HOST, serve
from s5wm.viewer.subject import Subject, _policy_only, _values_of_beliefs, load_subject

from ..diagnostics.oracle import CONFIG, DT, STEPS, make_learner, make_oracle
from ..diagnostics.saved import SMALL, save_run
from .pages import episode, flying, page_content

LONG = 20
TASK = DoubleIntegratorConfig(steps=LONG, ctrl_dt=DT)
FEW = FuturesConfig(horizon=STEPS, every=3, samples=2, keep=1)


@pytest.fixture(scope="module")
def oracle() -> Subject:
    """A model that knows the double integrator exactly, and the policy that flies for it."""
    env = TASK.build()
    agent = CONFIG.build(env.spec, num_envs=1)
    learner = make_oracle(make_learner(agent))
    small = dataclasses.replace(CONFIG, replay=dataclasses.replace(CONFIG.replay, prefill=16))
    experiment = Experiment(
        task=TASK,
        agent=small,
        train=TrainConfig(num_envs=2, rollout_length=6),
        name=PresetName(task="toy", agent="s5wm", size="cpu"),
    )
    return Subject(
        name="oracle",
        facts="",
        experiment=experiment,
        policy=agent.policy(learner),
        model=learner.params.world_model,
        has_heads=True,
        values=ft.partial(_values_of_beliefs, learner.params.world_model, learner.params.critic),
        smoothing_weight=0.0,
        note="",
    )


@pytest.mark.slow
def test_what_an_exact_model_predicts_is_what_then_happens(oracle: Subject) -> None:
    """Whatever policy flew: one that is a moving average of parameters has beliefs of another core."""
    average = jax.tree.map(lambda x: 0.7 * x, oracle.policy)
    own = run_episode(TASK, oracle.policy, seed=1)
    exact_predictions(oracle, own)
    other = run_episode(TASK, average, seed=1)
    assert np.abs(other.action - own.action).max() > 1e-3
    exact_predictions(oracle, other)
    belief = beliefs_of(oracle.model, *jax.tree.map(jnp.asarray, (other.timestep, other.action)))
    assert np.abs(belief.latent.stoch - other.timestep.obs).max() < 1e-4  # the latent is the observation
    assert oracle.values is not None
    critic = oracle.values.args[1]
    expected = critic(belief.latent.feature).mean()
    np.testing.assert_allclose(oracle.values(other.timestep, other.action), expected, rtol=1e-4, atol=1e-5)


def exact_predictions(oracle: Subject, found: Episode) -> None:
    assert oracle.model is not None
    futures = predict_futures(oracle.model, found, FEW, has_heads=True)
    obs = np.asarray(found.timestep.obs)
    row = futures.moment[:, None] + futures.ahead
    inside = row < found.rows
    assert found.rows == LONG + 1 or found.timestep.is_terminal[-1]
    assert inside[:-4].all() and not inside.all()
    real = np.broadcast_to(obs[np.minimum(row, found.rows - 1)][:, None], futures.state.shape)
    known = np.broadcast_to(inside[:, None, :, None], futures.state.shape)
    assert np.abs(futures.state[known] - real[known]).max() < 1e-4
    assert np.isnan(futures.state[~known]).all()
    assert futures.reward is not None
    assert np.allclose(futures.reward[:, 0, 0], found.reward[futures.moment])


@pytest.mark.slow
def test_a_page_has_bands_where_something_is_predicted(oracle: Subject) -> None:
    found = run_episode(TASK, oracle.policy, seed=1)
    content = policy_content(oracle, found, FEW)
    panels = {panel["title"]: panel for panel in content["panels"]}
    assert list(panels) == ["number 0", "number 1", "reward", "return so far", "value", "action"]
    assert content["flight"] is None and content["camera"] is None
    band = unpacked(panels["number 0"]["band"])
    assert band.shape == (len(content["futures"]["moment"]), 3, STEPS + 1)
    assert np.allclose(unpacked(panels["return so far"]["real"])[-1], found.reward.sum(), atol=1e-3)
    assert panels["value"]["also_title"]
    assert page_of({"task": "toy", "course": None, "policies": [{"name": "oracle", **content}]})


def test_a_value_stands_beside_the_discounted_return_that_followed() -> None:
    found = episode(np.zeros((4, 2), np.float32))
    panel = value_panel(found, np.zeros(4, np.float32), discount=0.5, smoothing_weight=0.0)
    assert panel.also == pytest.approx([1.75, 1.5, 1.0, 0.0])


@pytest.mark.parametrize("target", range(7))
def test_the_pose_in_the_world_comes_from_body_axes_and_gates(target: int) -> None:
    track = RacingConfig(track=SplitSConfig()).build().track
    rng = np.random.default_rng(target)
    quat = rng.normal(size=4)
    quad = QuadState(
        pos_w=jnp.asarray(rng.uniform(-5, 5, 3), jnp.float32),
        vel_w=jnp.asarray(rng.normal(size=3), jnp.float32),
        quat=jnp.asarray(quat / np.linalg.norm(quat), jnp.float32),
        omega_b=jnp.asarray(rng.normal(size=3), jnp.float32),
        rotor_speed=jnp.zeros(4),
    )
    state = observe("C", track, RaceView(quad, jnp.int32(target), jnp.zeros(4), jnp.float32(1.0)))
    found = pose_from_layout_c(track.gate_pos, track.gate_yaw, state[None, None])
    assert np.asarray(found.pos_w[0, 0]) == pytest.approx(np.asarray(quad.pos_w), abs=1e-4)
    assert np.asarray(found.rotation[0, 0]) == pytest.approx(np.asarray(to_matrix(quad.quat)), abs=1e-5)


def test_positions_of_states_are_those_of_the_flight() -> None:
    """In every layout that has them, of observations and of privileged states; to the millimetre."""
    rng = np.random.default_rng(0)
    for observation, privileged_layout in (("B", "C"), ("C", "B"), ("A", "B")):
        task = RacingConfig(
            track=SplitSConfig(), observation=observation, privileged_layout=privileged_layout
        )
        track = task.build().track
        quat = rng.normal(size=4)
        quad = QuadState(
            pos_w=jnp.asarray([1.0, -2.0, 3.0]),
            vel_w=jnp.ones(3),
            quat=jnp.asarray(quat / np.linalg.norm(quat), jnp.float32),
            omega_b=jnp.zeros(3),
            rotor_speed=jnp.zeros(4),
        )
        view = RaceView(quad, jnp.int32(4), jnp.zeros(4), jnp.float32(1.0))
        for target, layout in (("observation", observation), ("privileged", privileged_layout)):
            found = positions_of(task, np.asarray(observe(layout, track, view))[None], target)
            if layout == "A":  # relative to the gate, which it does not name
                assert found is None
            else:
                assert found[0] == pytest.approx([1.0, -2.0, 3.0], abs=1e-3)
    assert positions_of(TASK, np.zeros((1, 2), np.float32), "observation") is None


def test_a_page_needs_nothing_else_and_its_content_cannot_leave_its_element() -> None:
    policy = flying("</script><script>alert(1)</script> {{scripts}}", 0.0)
    content = page_content(policy)
    page = page_of(content)
    held = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert json.loads(held[1]) == json.loads(json.dumps(content))
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "@import" not in page and "url(http" not in page


def test_a_page_shows_the_licence_of_every_library_that_it_embeds() -> None:
    page = page_of(page_content(flying("one", 0.0)))
    shown = re.search(r"<summary>licences</summary><pre>(.*?)</pre>", page, re.DOTALL)
    assert shown is not None
    licences = shown[1].split("== ")[1:]
    assert [text.split()[0] for text in licences] == ["three", "uplot"]
    for text, holder in zip(licences, ("three.js authors", "Leon Sorokin"), strict=True):
        assert re.search(rf"The MIT License.*Copyright \S+ [-\d]+ {holder}", text, re.DOTALL)
        assert "Permission is hereby granted, free of charge" in text
        assert "THE SOFTWARE IS PROVIDED" in text


def test_a_page_is_served_on_the_loopback_interface_alone(capsys) -> None:
    told: list[str] = []
    ready = threading.Event()

    def log(text: str) -> None:
        told.append(text)
        ready.set()

    threading.Thread(
        target=serve, args=("<p>page</p>",), kwargs={"port": 0, "opens": False, "log": log}, daemon=True
    ).start()
    assert ready.wait(20)
    address = re.search(r"http://\S+", told[0])
    assert address is not None and address[0].startswith(f"http://{HOST}:") and HOST == "127.0.0.1"
    with urllib.request.urlopen(address[0], timeout=20) as answer:
        assert answer.read() == b"<p>page</p>"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(address[0] + "etc/passwd", timeout=20)
    foreign = urllib.request.Request(address[0], headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign, timeout=20)


@pytest.mark.slow
def test_a_run_and_its_page(tmp_path: Path, capsys) -> None:
    run = save_run(tmp_path / "run", SMALL)
    page = tmp_path / "out" / "page.html"
    assert View(runs=(str(run),), html=page, horizon=4, samples=2).run() == 0
    text = page.read_text()
    held = re.search(r'id="content">(.*?)</script>', text, re.DOTALL)
    assert held is not None
    (policy,) = json.loads(held[1])["policies"]
    assert policy["flight"] is not None and policy["futures"]["position"] is not None
    assert "latest policy" in policy["facts"] and "192 environment steps" in policy["facts"]
    with pytest.raises(ConfigError, match="given twice"):
        View(runs=(str(run), str(run)), html=page).run()


@pytest.mark.slow
def test_runs_of_two_tasks_are_not_on_one_page(tmp_path: Path) -> None:
    runs = [
        save_run(
            tmp_path / name, dataclasses.replace(SMALL, task=dataclasses.replace(SMALL.task, seconds=seconds))
        )
        for name, seconds in (("short", 0.1), ("long", 0.2))
    ]
    with pytest.raises(ConfigError, match="another track or task"):
        view_content(runs, config=FEW, which="latest", seed=0, log=print)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"runs": ()}, "no run"),
        ({"runs": ("a",), "horizon": 0}, "--horizon is 0"),
        ({"runs": ("a",), "samples": 0}, "--samples is 0"),
        ({"runs": ("a",), "port": 70000}, "--port is 70000"),
    ],
)
def test_wrong_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        View(**options).run()


def test_numbers_have_the_names_that_the_environment_gives() -> None:
    real = np.arange(6.0).reshape(3, 2)
    panels = state_panels(None, ("place", "speed"), real, None, kind="observation")
    assert [panel.title for panel in panels] == ["place", "speed"]
    np.testing.assert_array_equal(panels[1].real, real[:, 1])
    nameless = state_panels(None, (), real, None, kind="observation")
    assert [panel.title for panel in nameless] == ["number 0", "number 1"]


def test_privileged_numbers_are_no_observations() -> None:
    """Panels of one section and title, of two policies, are one picture of the page."""
    real = np.zeros((3, 2))
    sections = {
        kind: {panel.section for panel in state_panels(None, (), real, None, kind=kind)}
        for kind in ("observation", "privileged")
    }
    assert sections == {"observation": {"observation"}, "privileged": {"privileged"}}


def test_states_of_other_layouts_have_sections_of_their_own() -> None:
    """Velocity in body axes and in world axes are no two curves of one picture."""
    found = {}
    for name, width in (("split-s", 24), ("split-s-robust", 27)):
        subject = load_subject(f"pretrained/{name}", which="best", warn=print)
        panels = _panels(
            subject, episode(np.zeros((4, width), np.float32)), None, "observation", _layout(subject)
        )
        found[name] = {panel.section for panel in panels}
    assert "velocity, layout B" in found["split-s"] and "velocity, layout C" in found["split-s-robust"]


def test_a_policy_without_heads_says_what_it_cannot_imagine() -> None:
    agent = load_agent("pretrained/figure-8-state", which="best", warn=print)
    shipped = _policy_only(agent.experiment, agent.policy, of_run=False)
    assert (
        shipped.model is not None and shipped.note == "this policy is stored without reward head and critic"
    )
    assert _policy_only(agent.experiment, agent.policy, of_run=True).note.endswith(
        "; --policy latest shows both"
    )
