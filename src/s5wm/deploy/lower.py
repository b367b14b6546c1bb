"""Lowers a trained policy to a graph of the operations that acting needs; constants are folded."""

import functools as ft
from typing import Any

import equinox as eqx
import jax
import numpy as np

from s5wm.actions import ActionSpec, Box
from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.heads import Actor
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.builder import Builder
from s5wm.deploy.graph import Function, Graph, Value, Values
from s5wm.deploy.inputs import NAMES
from s5wm.deploy.layers import activated, apply, check_fields, step_core
from s5wm.deploy.lower_ppo import act_ppo, ppo_slots
from s5wm.deploy.memory import Memory
from s5wm.errors import ConfigError, DivergedError
from s5wm.nn.mlp import MLP
from s5wm.runs.policyfile import named_leaves
from s5wm.types import EnvSpec
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.latent import AbstractLatentSpace, CategoricalSpace, GaussianSpace, IdentityLatent
from s5wm.worldmodel.privileged_state import PrivilegedStateRSSM
from s5wm.worldmodel.rssm import RSSM
from s5wm.worldmodel.sensing import AnyEncoder, MixedEncoder
from s5wm.worldmodel.sequence import SequenceModel

PREV_ACTION = "prev_action"
"""Memory slot of the last action; a runtime that sent another command writes it there."""


def lower(policy: AbstractPolicy[Any, Any], spec: EnvSpec) -> Graph:
    """The graph of a policy for observations of this spec.

    Raises ``DivergedError`` where a parameter is not finite, ``ConfigError`` for a network that no rule is known for.
    """
    for name, leaf in named_leaves(policy).items():
        if not np.all(np.isfinite(np.asarray(leaf))):
            raise DivergedError(
                f"the policy's {name} is not finite; it is not exported: choose --policy latest or best"
            )
    _check_starts_at_zero(policy)
    b = Builder()
    memory = Memory(b, _sizes(policy))
    arrays = zip(NAMES, jax.tree.leaves(spec.zero_obs()), strict=False)
    inputs = tuple(Value(name, array.shape, is_uint8=array.dtype == np.uint8) for name, array in arrays)
    action = _as_taken(b, _act(policy, b, inputs, memory), spec.action)
    return Graph(inputs, memory.whole, action, memory.collected(), memory.slots, tuple(b.operations))


def _as_taken(b: Builder, vector: Value, spec: ActionSpec) -> Value:
    """Actions of the task: numbers in its bounds, flat; of discrete actions the concatenated one-hots."""
    if not isinstance(spec, Box):
        return vector
    inside = b.clip(vector, -1.0, 1.0)
    if spec.bounds == (-1.0, 1.0):
        return inside
    low, high = (np.broadcast_to(np.asarray(bound, np.float64), (spec.width,)) for bound in spec.bounds)
    return b.affine(inside, 1.0 + 2.0 * low / (high - low), 0.5 * (high - low))


def _check_starts_at_zero(policy: AbstractPolicy[Any, Any]) -> None:
    for name, leaf in named_leaves(policy.initial()).items():
        if np.any(np.asarray(leaf)):
            raise ConfigError(f"the memory {name} does not begin at zero, which export takes for granted")


def _sizes(policy: AbstractPolicy[Any, Any]) -> dict[str, int]:
    """Slots of the memory: those that the next step depends on."""
    if isinstance(policy, DreamerPolicy):
        belief = policy.initial().belief
        sizes = {name.replace(".", "_"): leaf.size for name, leaf in named_leaves(belief.memory).items()}
        # A memory that is one array has no name of its own.
        core = {name or "core": size for name, size in sizes.items()}
        return core | {"latent": belief.latent.stoch.size, PREV_ACTION: policy.actor.actions}
    if isinstance(policy, PPOPolicy):
        return ppo_slots(policy)
    raise ConfigError(
        f"export knows no policy {type(policy).__name__}; it knows those of dreamer and ppo agents"
    )


@ft.singledispatch
def _act(policy: Any, b: Builder, inputs: Values, memory: Memory) -> Value:
    raise ConfigError(f"export knows no {type(policy).__name__}")


_act.register(PPOPolicy, act_ppo)


@_act.register
def _(policy: DreamerPolicy, b: Builder, inputs: Values, memory: Memory) -> Value:
    check_fields(policy, "encoder", "dynamics", "actor")
    feature = _filter(policy.dynamics, b, _token(policy.encoder, b, inputs), memory)
    action = _mode(policy.actor, b, feature)
    memory.write(PREV_ACTION, action)
    return action


def _token(encoder: AnyEncoder, b: Builder, inputs: Values) -> Value:
    """Tokens of the inputs, one after the other."""
    if isinstance(encoder, MixedEncoder):
        check_fields(encoder, "image", "vector")
        parts = zip((encoder.image, encoder.vector), inputs, strict=True)
        return b.concat(*(_token(part, b, (each,)) for part, each in parts))
    check_fields(encoder, "network", "symlog_inputs")
    (seen,) = inputs
    return apply(encoder.network, b, b.unary(Function.SYMLOG, seen) if encoder.symlog_inputs else seen)


def _mode(actor: Actor, b: Builder, feature: Value) -> Value:
    """``tanh`` of the mean, the rows of the spread left out; of choices the likeliest one."""
    check_fields(actor, "network", "config", "spec")
    if not isinstance(actor.spec, Box):
        return b.one_hots(apply(actor.network, b, feature), actor.spec.groups)

    def last(network: MLP) -> list[Any]:
        return jax.tree.leaves((network.out, network.skip))

    mean = eqx.tree_at(last, actor.network, [leaf[: actor.actions] for leaf in last(actor.network)])
    return b.unary(Function.TANH, apply(mean, b, feature))


@ft.singledispatch
def _filter(dynamics: Any, b: Builder, token: Value, memory: Memory) -> Value:
    """One filter step: the feature ``[h_t, z_t]``."""
    raise ConfigError(
        f"export knows no dynamics {type(dynamics).__name__}; add a rule for it to s5wm.deploy.lower"
    )


@_filter.register(PrivilegedStateRSSM)
def _(dynamics: PrivilegedStateRSSM[Any], b: Builder, token: Value, memory: Memory) -> Value:
    check_fields(dynamics, "space", "filter", "states")
    estimator = dynamics.filter
    check_fields(estimator, "inputs", "norm", "core", "head")
    action = b.clip(memory.read(PREV_ACTION), -1.0, 1.0)
    u = activated(b, estimator.norm, apply(estimator.inputs, b, b.concat(token, action)))
    state, deter = step_core(estimator.core, b, memory.read("filter"), u)
    memory.write("filter", state)
    return _filter(dynamics.states, b, apply(estimator.head, b, b.concat(deter, token)), memory)


@_filter.register(DecoupledRSSM)
def _(dynamics: DecoupledRSSM[Any], b: Builder, token: Value, memory: Memory) -> Value:
    check_fields(dynamics, "space", "sequence", "posterior_head", "deter_size")
    deter = _deter(dynamics.sequence, b, memory)
    return _latent(dynamics.space, b, deter, apply(dynamics.posterior_head, b, token), memory)


@_filter.register(RSSM)
def _(dynamics: RSSM[Any], b: Builder, token: Value, memory: Memory) -> Value:
    check_fields(dynamics, "space", "sequence", "posterior_head", "deter_size", "unroll")
    deter = _deter(dynamics.sequence, b, memory)
    params = apply(dynamics.posterior_head, b, b.concat(deter, token))
    return _latent(dynamics.space, b, deter, params, memory)


def _deter(sequence: SequenceModel[Any], b: Builder, memory: Memory) -> Value:
    """``h_t`` from the latent, the action and the memory before; the prior heads have no part in acting."""
    known = ("inputs", "norm", "core", "prior_head", "mixture_logits_head", "space", "prior_sees_inputs")
    check_fields(sequence, *known)
    previous = b.concat(memory.read("latent"), b.clip(memory.read(PREV_ACTION), -1.0, 1.0))
    u = activated(b, sequence.norm, apply(sequence.inputs, b, previous))
    state, deter = step_core(sequence.core, b, memory.read("core"), u)
    memory.write("core", state)
    return deter


def _latent(
    space: AbstractLatentSpace[Any, Any], b: Builder, deter: Value, params: Value, memory: Memory
) -> Value:
    """The mode of the posterior, with ``h_t``."""
    match space:
        case CategoricalSpace():
            stoch = b.one_hot(params, space.groups)
        case GaussianSpace():
            stoch = b.slice(params, 0, space.width)
        case IdentityLatent():
            stoch = params
        case _:
            raise ConfigError(
                f"export knows no latent space {type(space).__name__}; add it to s5wm.deploy.lower"
            )
    memory.write("latent", stoch)
    return b.concat(deter, stoch)
