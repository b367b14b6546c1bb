"""Predictions at two events: the goal changes (a gate is passed), and the episode terminates (a crash)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from s5wm.diagnostics.forecast import Forecast, Reach, flat
from s5wm.diagnostics.statistics import Values, auc_of_columns, masked_mean
from s5wm.envs.groups import Groups
from s5wm.types import TimeStep

LEADS = (0, 1, 5, 10)
"""Steps from the last observation to the predicted one; 0 is the posterior of that observation itself."""


class Window(eqx.Module):
    """Means over the time steps of one kind of event; every array has one entry per lead."""

    lead: tuple[int, ...] = eqx.field(static=True)
    count: Int[Values, " C"]
    reward_real: Float[Values, " C"]
    reward_predicted: Float[Values, " C"]
    terminal_predicted: Float[Values, " C"]  # mean P(terminal)
    goal_error: Float[Values, " C"]  # m, of the vector to the goal; unknown without one


class Events(eqx.Module):
    """Predictions at events and at all other time steps."""

    goal_changes: Window  # none where there is no goal
    terminations: Window  # is_terminal
    others: Window
    terminal_auc: Float[Values, " C"]  # of P(terminal) over all time steps


def goal_changes(timestep: TimeStep, groups: Groups) -> Bool[Array, "B T"]:
    """Steps at which the goal changed (``Group.goal_from``); none where there is no goal."""
    goals = [group.goal_from for group in groups if group.goal_from is not None]
    if not goals:
        return jnp.zeros_like(timestep.is_first)
    target = jnp.argmax(timestep.state[..., goals[0] :], axis=-1)
    changed = target[:, 1:] != target[:, :-1]
    return jnp.pad(changed, ((0, 0), (1, 0))) & ~timestep.is_first


def measure_events(
    filtered: Forecast,
    ahead: Forecast,
    reach: Reach,
    timestep: TimeStep,
    *,
    state: Float[Array, "B T Y"],
    groups: Groups,
) -> Events:
    """From posterior forecasts ``[B, T]`` and open-loop ones ``[B, T-1, H]`` of every time step."""
    leads = tuple(lead for lead in LEADS if lead <= reach.target.shape[1])
    goal = [group for group in groups if group.goal_from is not None]
    misses = goal[0].error if goal else lambda left, right: jnp.zeros(left.shape[:-1])
    columns = {
        "reward": _columns(filtered.reward, ahead.reward, leads),
        "terminal": _columns(filtered.terminal, ahead.terminal, leads),
        "miss": _columns(misses(filtered.vector, state), misses(ahead.vector, state[:, reach.target]), leads),
    }
    real = _columns(timestep.reward.nominal, timestep.reward.nominal[:, reach.target], leads)
    # The first step of an episode has no reward and no terminal flag.
    valid = _columns(~timestep.is_first, reach.valid, leads)
    terminated = _columns(timestep.is_terminal, timestep.is_terminal[:, reach.target], leads)
    changes = goal_changes(timestep, groups)
    changed = _columns(changes, changes[:, reach.target], leads)

    def window(mask: Bool[Array, "K C"]) -> Window:
        return Window(
            lead=leads,
            count=mask.sum(0),
            reward_real=masked_mean(real, mask),
            reward_predicted=masked_mean(columns["reward"], mask),
            terminal_predicted=masked_mean(columns["terminal"], mask),
            goal_error=masked_mean(columns["miss"], mask & bool(goal)),
        )

    return Events(
        goal_changes=window(valid & changed),
        terminations=window(valid & terminated),
        others=window(valid & ~changed & ~terminated),
        terminal_auc=auc_of_columns(columns["terminal"], terminated, valid),
    )


def _columns(now: Array, ahead: Array, leads: tuple[int, ...]) -> Array:
    """``[B, T]`` for lead 0 and ``[B, T-1, H]`` for the others to one column per lead, ``[B (T-1), C]``."""
    filtered = now[:, :-1]  # one for each start
    return jnp.stack([filtered.reshape(-1), *(flat(ahead)[:, lead - 1] for lead in leads if lead)], axis=-1)
