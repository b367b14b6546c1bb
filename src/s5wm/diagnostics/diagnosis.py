"""Diagnostics of a world-model agent on real flights, beyond mean losses and returns."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from s5wm.agents.dreamer.agent import Dreamer, DreamerLearner
from s5wm.agents.dreamer.stored import StoredLatent, to_chunk
from s5wm.diagnostics.events import LEADS, Events, goal_changes, measure_events
from s5wm.diagnostics.forecast import Forecast, Reach, describe, filtered, flat, forecast_from
from s5wm.diagnostics.statistics import UNKNOWN, Agreement, Band, Values, deviation, masked_mean, with_gaps
from s5wm.diagnostics.values import Calibration, calibrate
from s5wm.envs.groups import Group, Groups, number_groups
from s5wm.types import Key, Scalar, TimeStep, Transition, array_of
from s5wm.worldmodel.dynamics import Posterior
from s5wm.worldmodel.model import WorldModel

STARTS = 1024
"""About how many open-loop rollouts of full horizon are made."""


class GroupErrors(eqx.Module):
    """Errors of every state group in its unit; arrays are ``[G, ...]`` in the order of ``groups``."""

    groups: Groups = eqx.field(static=True)
    band: Band
    deviation: Float[Values, " G"]  # of the real state from its mean; none of a rotation

    def of(self, name: str) -> Band:
        """Errors of the group with this name."""
        index = [group.name for group in self.groups].index(name)
        return jax.tree.map(lambda x: x[index], self.band)

    @classmethod
    def measure(
        cls, groups: Groups, predicted: Float[Array, "K *b Y"], real: Float[Array, "K *b Y"], valid: Array
    ) -> "GroupErrors":
        """Bands over the first axis, of entries that are ``valid``."""
        errors = jnp.stack([group.error(predicted, real) for group in groups], axis=1)
        band = Band.of(errors, jnp.broadcast_to(valid[:, None], errors.shape))
        states, counted = real.reshape(-1, real.shape[-1]), valid.reshape(-1)
        return cls(groups, band, jnp.stack([_deviation(group, states, counted) for group in groups]))


def _deviation(group: Group, real: Float[Array, "K Y"], valid: Bool[Array, " K"]) -> Scalar:
    if group.kind == "rotation":
        return jnp.asarray(UNKNOWN)
    return deviation(group.distance_scale * real[:, group.start : group.stop], valid)


class RewardFidelity(eqx.Module):
    """Imagined against real nominal reward along real actions; entry ``k-1`` is ``k`` steps ahead."""

    step: Agreement  # of the reward received on arriving there
    total: Agreement  # of the sum of the rewards up to there
    error: Band  # of the step's reward
    deviation: Float[Values, ""]  # of the real reward


class LatentHealth(eqx.Module):
    """Means over all time steps, nats."""

    kl: Float[Values, ""]
    kl_at_goal_changes: Float[Values, ""]
    posterior_entropy: Float[Values, ""]
    prior_entropy: Float[Values, ""]


class Diagnosis(eqx.Module):
    """Results of ``report``."""

    reconstruction: GroupErrors  # [G], from the posterior of the same time step
    open_loop: GroupErrors  # [G, H]
    reward: RewardFidelity  # [H]
    events: Events
    value: Calibration
    latent: LatentHealth

    def metrics(self) -> dict[str, float]:
        """Scalar metrics; NaN where the flights had no such event."""
        events, found = self.events, dict[str, Any]()
        for index, lead in enumerate(events.goal_changes.lead):
            for name, window in (("pass", events.goal_changes), ("crash", events.terminations)):
                found[f"{name}/reward_real_{lead}"] = window.reward_real[index]
                found[f"{name}/reward_predicted_{lead}"] = window.reward_predicted[index]
                found[f"{name}/terminal_{lead}"] = window.terminal_predicted[index]
                found[f"{name}/gate_error_{lead}"] = window.goal_error[index]
            found[f"other/terminal_{lead}"] = events.others.terminal_predicted[index]
            found[f"terminal_auc/{lead}"] = events.terminal_auc[index]
        horizons = [k for k in (1, 5, 10, 20, 50) if k <= self.reward.error.median.shape[0]]
        for index, group in enumerate(self.open_loop.groups):
            found[f"error/{group.name}_0"] = self.reconstruction.band.median[index]
            found |= {f"error/{group.name}_{k}": self.open_loop.band.median[index, k - 1] for k in horizons}
        for k in horizons:
            found[f"reward/r2_{k}"] = self.reward.step.r2[k - 1]
            found[f"reward/total_r2_{k}"] = self.reward.total.r2[k - 1]
            found[f"reward/total_bias_{k}"] = self.reward.total.bias[k - 1]
        for name, agreement in (("all", self.value.everywhere), ("crash", self.value.before_crash)):
            found[f"value/{name}_r2"] = agreement.r2
            found[f"value/{name}_bias"] = agreement.bias
        found["latent/kl"], found["latent/kl_at_passes"] = self.latent.kl, self.latent.kl_at_goal_changes
        found["latent/posterior_entropy"] = self.latent.posterior_entropy
        found["latent/prior_entropy"] = self.latent.prior_entropy
        return {name: float(value) for name, value in found.items()}


def report(  # noqa: PLR0913 - an agent, its learner, flights and options
    agent: Dreamer,
    learner: DreamerLearner,
    transitions: Transition[StoredLatent[Any]],
    horizon: int,
    key: Key,
    *,
    smoothing_weight: Scalar | float = 0.0,
    groups: Groups | None = None,
) -> Diagnosis:
    """Measure on flights ``[B, T+1]`` as ``train.loop.unroll`` returns them with the agent's own policy.

    The arrays are NumPy's.  Row 0 is only context.  Windows may hold any number of episodes; no prediction crosses
    the start of one.  Horizons beyond ``T - 1`` have no samples and are NaN.  ``groups`` says what the decoder's vector
    means (``task.state_groups``); by default nothing is known of it.
    """
    weight = jnp.asarray(smoothing_weight, jnp.float32)
    return with_gaps(_report(agent, learner, transitions, horizon, key, weight, groups))


@ft.partial(jax.jit, static_argnames=("horizon", "groups"))
def _report(  # noqa: PLR0913 - as above
    agent: Dreamer,
    learner: DreamerLearner,
    transitions: Transition[StoredLatent[Any]],
    horizon: int,
    key: Key,
    smoothing_weight: Scalar,
    groups: Groups | None,
) -> Diagnosis:
    k_noise, k_events, k_open = jr.split(key, 3)
    model, chunk = learner.params.world_model, to_chunk(transitions)
    step = chunk.timestep
    batch, length = step.is_first.shape
    noise = model.dynamics.space.noise(k_noise, (batch, length))  # of the teacher-forced pass, too
    out = jax.vmap(lambda c, n: model.observe(c, noise=n))(chunk, noise)
    estimated = describe(model, out.belief.latent.feature)
    state = raw_state(model, step)
    groups = number_groups(state.shape[-1]) if groups is None else groups

    soon = Reach.of(step.is_first, horizon=min(max(LEADS), horizon), stride=1)
    ahead = forecast_from(model, out.belief, chunk.action, soon, key=k_events)
    far = far_reach(step, horizon)
    beyond = forecast_from(model, out.belief, chunk.action, far, key=k_open)
    valid = jnp.ones((batch * length,), bool)
    return Diagnosis(
        reconstruction=GroupErrors.measure(groups, flat(estimated.vector), flat(state), valid),
        open_loop=GroupErrors.measure(
            groups, flat(beyond.vector), flat(state[:, far.target]), flat(far.valid)
        ),
        reward=compare_rewards(beyond, far, step),
        events=measure_events(estimated, ahead, soon, step, state=state, groups=groups),
        value=calibrate(
            learner.params.critic(out.belief.latent.feature).mean(),
            step,
            smoothing_weight=smoothing_weight,
            discount=model.discount,
        ),
        latent=latent_health(
            model,
            jax.vmap(lambda c, o, n: model.teacher_forced(c, o, noise=n))(chunk, out, noise),
            goal_changes(step, groups),
        ),
    )


def open_loop_errors(
    model: WorldModel[Any],
    transitions: Transition[StoredLatent[Any]],
    horizon: int,
    key: Key,
    *,
    groups: Groups | None = None,
) -> GroupErrors:
    """``report(...).open_loop`` alone: it needs encoder, dynamics and decoder, and none of the other heads."""
    return with_gaps(_open_loop_errors(model, transitions, horizon, key, groups))


@ft.partial(jax.jit, static_argnames=("horizon", "groups"))
def _open_loop_errors(
    model: WorldModel[Any],
    transitions: Transition[StoredLatent[Any]],
    horizon: int,
    key: Key,
    groups: Groups | None,
) -> GroupErrors:
    predicted, real, valid = open_loop_states(model, transitions, horizon, key)
    groups = number_groups(real.shape[-1]) if groups is None else groups
    return GroupErrors.measure(groups, predicted, real, valid)


@ft.partial(jax.jit, static_argnames="horizon")
def open_loop_states(
    model: WorldModel[Any], transitions: Transition[StoredLatent[Any]], horizon: int, key: Key
) -> tuple[Float[Array, "K H Y"], Float[Array, "K H Y"], Bool[Array, "K H"]]:
    """Predicted and real states that ``report(...).open_loop`` is measured on, and which of them count."""
    k_noise, _, k_open = jr.split(key, 3)
    chunk = to_chunk(transitions)
    step = chunk.timestep
    belief = filtered(model, chunk, k_noise).belief
    far = far_reach(step, horizon)
    beyond = forecast_from(model, belief, chunk.action, far, key=k_open)
    return flat(beyond.vector), flat(raw_state(model, step)[:, far.target]), flat(far.valid)


def far_reach(step: TimeStep, horizon: int) -> Reach:
    """Open-loop rollouts of full horizon, about ``STARTS`` of them."""
    return Reach.of(step.is_first, horizon=horizon, stride=max(1, step.is_first.size // STARTS))


def raw_state(model: WorldModel[Any], timestep: TimeStep) -> Float[Array, "*b Y"]:
    """Target of the decoder, in the environment's units."""
    return array_of(timestep.obs) if model.config.target == "observation" else timestep.state


def compare_rewards(said: Forecast, reach: Reach, timestep: TimeStep) -> RewardFidelity:
    """Nominal rewards of forecasts ``[B, S, H]``."""
    real = flat(timestep.reward.nominal[:, reach.target])
    predicted, valid = flat(said.reward), flat(reach.valid)
    return RewardFidelity(
        step=Agreement.of(predicted, real, valid),
        total=Agreement.of(jnp.cumsum(predicted, axis=1), jnp.cumsum(real, axis=1), valid),
        error=Band.of(jnp.abs(predicted - real), valid),
        deviation=deviation(real.reshape(-1, 1), valid.reshape(-1)),
    )


def latent_health(
    model: WorldModel[Any], teacher_forced: Posterior[Any], changes: Bool[Array, "B T"]
) -> LatentHealth:
    """KL of posterior and prior, and their entropies, of the pass that the prior learns from."""
    space = model.dynamics.space
    kl = space.kl(teacher_forced.posterior, teacher_forced.prior)
    return LatentHealth(
        kl=kl.mean(),
        kl_at_goal_changes=masked_mean(kl.reshape(-1), changes.reshape(-1)),
        posterior_entropy=space.entropy(teacher_forced.posterior).mean(),
        prior_entropy=space.entropy(teacher_forced.prior).mean(),
    )
