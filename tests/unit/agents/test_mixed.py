"""An image with numbers beside it: both are encoded, both are decoded, and the policy sees nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.ppo.actor import FrameStackConfig
from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.base import AbstractEnv
from s5wm.envs.wrappers import AutoReset
from s5wm.errors import ObservationError
from s5wm.experiments.trained import checked_observation
from s5wm.nn.conv import PatchConfig
from s5wm.training.loop import train
from s5wm.training.state import NEVER, NonFiniteReport, init_train
from s5wm.types import EnvSpec, MixedObs, first_step, later_step
from s5wm.worldmodel.build import build_world_model
from s5wm.worldmodel.sensing import MixedEncoder, decode

from ...tiny import S5WM

SPEC = EnvSpec((32, 32, 1), np.dtype(np.uint8), Box((1,)), ctrl_dt=1.0, privileged_size=2, vector_size=3)
CONFIG = replace(
    S5WM,
    world_model=replace(S5WM.world_model, image=PatchConfig(patch=16, depth=2, multipliers=(1, 1))),
    replay=replace(S5WM.replay, prefill=8),
)


class Both(AbstractEnv[jax.Array]):
    """Counts to three, by brightness and by number."""

    @property
    def spec(self):
        return SPEC

    def _look(self, t):
        image = jnp.full(SPEC.obs_shape, 80 * t).astype(jnp.uint8)
        return MixedObs(image, jnp.full(3, t, jnp.float32)), jnp.full(2, t, jnp.float32)

    def reset(self, key):
        obs, state = self._look(jnp.zeros((), jnp.int32))
        return jnp.zeros((), jnp.int32), first_step(obs, state)

    def step(self, state, action, key):
        obs, told = self._look(state + 1)
        return state + 1, later_step(
            obs, action[0], is_last=state == 2, is_terminal=state == 2, privileged=told
        )


def model(target="observation"):
    config = replace(CONFIG.world_model, target=target)
    return build_world_model(config, SPEC, discount=0.9, key=jr.key(0))


def test_both_parts_reach_the_token_and_come_back() -> None:
    built = model()
    assert isinstance(built.encoder, MixedEncoder)
    obs = SPEC.zero_obs(5)
    tokens = built.encoder(obs)
    for changed in (
        MixedObs(obs.image.at[:, 3, 3].set(9), obs.vector),
        MixedObs(obs.image, obs.vector.at[:, 1].set(0.5)),
    ):
        assert (built.encoder(changed) != tokens).any(-1).all()
    features = built.dynamics.initial().latent.feature
    said = decode(built.decoder, jnp.broadcast_to(features, (5, *features.shape)))
    assert said.image.shape == (5, 32, 32, 1) and said.vector.shape == (5, 3)


def test_the_loss_counts_each_part_once() -> None:
    built, now = model(), jax.vmap(first_step)(SPEC.zero_obs(4), jnp.zeros((4, 2)))
    feature = jnp.zeros((4, built.dynamics.initial().latent.feature.shape[0]))
    said = decode(built.decoder, feature)
    expected = jnp.square(said.image).sum((1, 2, 3)) + jnp.square(said.vector).sum(-1)
    np.testing.assert_allclose(built.decoder_loss(feature, now), expected, rtol=1e-5)


def test_a_privileged_target_takes_the_place_of_both() -> None:
    built = model("privileged")
    assert isinstance(built.encoder, MixedEncoder)
    feature = built.dynamics.initial().latent.feature
    assert decode(built.decoder, feature).shape == (2,)


@pytest.mark.slow
def test_it_is_trained_in_the_one_loop() -> None:
    env = AutoReset(Both())
    agent = CONFIG.build(SPEC, num_envs=2)
    state, metrics, sums = train(env, agent, init_train(env, agent, 2, 0), length=8, iterations=3)
    assert float(metrics.count) >= 2 and all(np.isfinite(value) for value in metrics.means.values())
    assert int(sums.faults.observation) == NEVER
    rows = state.learner.replay.rows.timestep
    np.testing.assert_array_equal(rows.obs.image[:, :8, 0, 0, 0], 80 * rows.obs.vector[:, :8, 0])


def test_a_number_that_is_none_is_found_in_the_vector() -> None:
    obs = SPEC.zero_obs(3)
    broken = MixedObs(obs.image, obs.vector.at[1, 2].set(jnp.nan))
    no = jnp.zeros((), bool)
    now = jax.vmap(lambda obs: later_step(obs, jnp.zeros(()), is_last=no, is_terminal=no))(broken)
    assert int(NonFiniteReport.at(now, jnp.zeros((3, 1)), jnp.asarray(5)).observation) == 5 * 3 + 1


def test_what_no_action_can_come_from_is_refused() -> None:
    good = jax.device_get(SPEC.zero_obs())
    checked_observation(good, SPEC)
    with pytest.raises(ObservationError, match="an image and numbers"):
        checked_observation(good.image, SPEC)
    with pytest.raises(ObservationError, match="index 1"):
        checked_observation(MixedObs(good.image, np.array([0.0, np.inf, 0.0])), SPEC)
    with pytest.raises(ObservationError, match=r"\(2,\)"):
        checked_observation(MixedObs(good.image, np.zeros(2)), SPEC)


@pytest.mark.slow
def test_ppo_reads_both_and_normalises_the_numbers() -> None:
    memory = FrameStackConfig()
    config = PPOConfig(
        units=8,
        critic_inputs="privileged",
        memory=memory,
        image=CONFIG.world_model.image,
        minibatches=2,
        epochs=1,
    )
    env = AutoReset(Both())
    agent = config.build(SPEC)
    before = init_train(env, agent, 2, 0)
    state, metrics, _ = train(env, agent, before, length=8, iterations=2)
    assert all(np.isfinite(value) for value in metrics.means.values())
    moments = state.learner.obs_moments
    assert moments.mean.shape == (3,) and 0.5 < float(moments.mean[0]) < 2.5  # it counts 0, 1, 2, 3
    policy, obs = agent.policy(state.learner), SPEC.zero_obs()
    told = MixedObs(obs.image, obs.vector + 1.0)
    lit = MixedObs(obs.image + 90, obs.vector)
    first = jnp.ones((), bool)
    actions = [policy(policy.initial(), one, first, key=None)[1] for one in (obs, told, lit)]
    assert actions[0] != actions[1] and actions[0] != actions[2]
