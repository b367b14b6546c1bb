"""Lowers a trained policy to a graph of the operations that acting needs; constants are folded."""

import functools as ft
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import numpy as np

from s5wm.actions import ActionSpec, Box
from s5wm.agents.base import AbstractPolicy
from s5wm.agents.dreamer.heads import Actor
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.ppo.actor import ReactiveActor, RecurrentActor, StackActor
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.builder import Builder
from s5wm.deploy.graph import Function, Graph, Slot, Value
from s5wm.deploy.layers import activated, apply, check_fields, host, step_core
from s5wm.errors import ConfigError, DivergedError
from s5wm.nn.mlp import MLP
from s5wm.ops.running import RunningMoments
from s5wm.runs.policyfile import named_leaves
from s5wm.types import EnvSpec
from s5wm.worldmodel.decoupled import DecoupledRSSM
from s5wm.worldmodel.latent import AbstractLatentSpace, CategoricalSpace, GaussianSpace, IdentityLatent
from s5wm.worldmodel.privileged_state import PrivilegedStateRSSM
from s5wm.worldmodel.rssm import RSSM
from s5wm.worldmodel.sensing import MixedEncoder
from s5wm.worldmodel.sequence import SequenceModel

PREV_ACTION = "prev_action"
"""Memory slot of the last action; a runtime that sent another command writes it there."""


@dataclass(eq=False)
class _Memory:
    """The memory vector while a graph is made: every slot is read once and written once."""

    builder: Builder
    sizes: dict[str, int]
    whole: Value = field(init=False)
    written: dict[str, Value] = field(default_factory=dict[str, Value])

    def __post_init__(self) -> None:
        self.whole = Value("h_in", (sum(self.sizes.values()),))

    @property
    def slots(self) -> tuple[Slot, ...]:
        starts = np.cumsum([0, *self.sizes.values()])
        return tuple(
            Slot(name, int(start), self.sizes[name]) for name, start in zip(self.sizes, starts, strict=False)
        )

    def read(self, name: str) -> Value:
        slot = next(slot for slot in self.slots if slot.name == name)
        return self.builder.slice(self.whole, slot.start, slot.size)

    def write(self, name: str, value: Value) -> None:
        self.written[name] = value

    def collected(self) -> Value:
        parts = [self.builder.reshape(self.written[name], (size,)) for name, size in self.sizes.items()]
        return self.builder.concat(*parts) if parts else self.whole


def lower(policy: AbstractPolicy[Any, Any], spec: EnvSpec) -> Graph:
    """The graph of a policy for observations of this spec.

    Raises ``DivergedError`` where a parameter is not finite, ``ConfigError`` for a network that no rule is known for.
    """
    for name, leaf in named_leaves(policy).items():
        if not np.all(np.isfinite(np.asarray(leaf))):
            raise DivergedError(
                f"the policy's {name} is not finite; it is not exported: choose --policy latest or best"
            )
    if spec.vector_size:
        raise ConfigError(
            "export writes policies that read one array, and this one reads an image and numbers beside it: train "
            "one on either of them"
        )
    _check_starts_at_zero(policy)
    b = Builder()
    memory = _Memory(b, _sizes(policy))
    obs = Value("obs", spec.obs_shape, is_uint8=spec.has_images)
    action = _as_taken(b, _act(policy, b, obs, memory), spec.action)
    return Graph(obs, memory.whole, action, memory.collected(), memory.slots, tuple(b.operations))


def _as_taken(b: Builder, vector: Value, spec: ActionSpec) -> Value:
    """Actions of the task: numbers in its bounds, flat; of discrete actions the concatenated one-hots."""
    if not isinstance(spec, Box):
        return vector
    inside = b.clip(vector, -1.0, 1.0)
    if spec.bounds == (-1.0, 1.0):
        return inside
    low, high = (np.broadcast_to(np.asarray(bound, np.float64), (spec.width,)) for bound in spec.bounds)
    return b.affine(inside, 1.0 + 2.0 * low / (high - low), 0.5 * (high - low))


def _one_hots(b: Builder, logits: Value, groups: tuple[int, ...]) -> Value:
    """The largest of each group."""
    if len(set(groups)) == 1:
        return b.one_hot(logits, len(groups))
    starts = np.cumsum([0, *groups])
    parts = [b.slice(logits, int(start), size) for start, size in zip(starts, groups, strict=False)]
    return b.concat(*(b.one_hot(part, 1) for part in parts))


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
    if not isinstance(policy, PPOPolicy):
        raise ConfigError(
            f"export knows no policy {type(policy).__name__}; it knows those of dreamer and ppo agents"
        )
    match policy.actor:
        case StackActor() as actor:
            return {"frames": (actor.frames - 1) * int(np.prod(actor.spec.obs_shape)), "started": 1}
        case RecurrentActor() as actor:
            return {"core": actor.initial().size}
        case _:
            return {}


@ft.singledispatch
def _act(policy: Any, b: Builder, obs: Value, memory: _Memory) -> Value:
    raise ConfigError(f"export knows no {type(policy).__name__}")


@_act.register
def _(policy: DreamerPolicy, b: Builder, obs: Value, memory: _Memory) -> Value:
    check_fields(policy, "encoder", "dynamics", "actor")
    encoder = policy.encoder
    if isinstance(encoder, MixedEncoder):
        raise ConfigError("export reads one array, and this policy reads an image and numbers")
    check_fields(encoder, "network", "symlog_inputs")
    seen = b.unary(Function.SYMLOG, obs) if encoder.symlog_inputs else obs
    token = apply(encoder.network, b, seen)
    feature = _filter(policy.dynamics, b, token, memory)
    action = _mode(policy.actor, b, feature)
    memory.write(PREV_ACTION, action)
    return action


def _mode(actor: Actor, b: Builder, feature: Value) -> Value:
    """``tanh`` of the mean, the rows of the spread left out; of choices the likeliest one."""
    check_fields(actor, "network", "config", "spec")
    if not isinstance(actor.spec, Box):
        return _one_hots(b, apply(actor.network, b, feature), actor.spec.groups)

    def last(network: MLP) -> list[Any]:
        return jax.tree.leaves((network.out, network.skip))

    mean = eqx.tree_at(last, actor.network, [leaf[: actor.actions] for leaf in last(actor.network)])
    return b.unary(Function.TANH, apply(mean, b, feature))


@ft.singledispatch
def _filter(dynamics: Any, b: Builder, token: Value, memory: _Memory) -> Value:
    """One filter step: the feature ``[h_t, z_t]``."""
    raise ConfigError(
        f"export knows no dynamics {type(dynamics).__name__}; add a rule for it to s5wm.deploy.lower"
    )


@_filter.register(PrivilegedStateRSSM)
def _(dynamics: PrivilegedStateRSSM[Any], b: Builder, token: Value, memory: _Memory) -> Value:
    check_fields(dynamics, "space", "filter", "states")
    estimator = dynamics.filter
    check_fields(estimator, "inputs", "norm", "core", "head")
    action = b.clip(memory.read(PREV_ACTION), -1.0, 1.0)
    u = activated(b, estimator.norm, apply(estimator.inputs, b, b.concat(token, action)))
    state, deter = step_core(estimator.core, b, memory.read("filter"), u)
    memory.write("filter", state)
    return _filter(dynamics.states, b, apply(estimator.head, b, b.concat(deter, token)), memory)


@_filter.register(DecoupledRSSM)
def _(dynamics: DecoupledRSSM[Any], b: Builder, token: Value, memory: _Memory) -> Value:
    check_fields(dynamics, "space", "sequence", "posterior_head", "deter_size")
    deter = _deter(dynamics.sequence, b, memory)
    return _latent(dynamics.space, b, deter, apply(dynamics.posterior_head, b, token), memory)


@_filter.register(RSSM)
def _(dynamics: RSSM[Any], b: Builder, token: Value, memory: _Memory) -> Value:
    check_fields(dynamics, "space", "sequence", "posterior_head", "deter_size", "unroll")
    deter = _deter(dynamics.sequence, b, memory)
    params = apply(dynamics.posterior_head, b, b.concat(deter, token))
    return _latent(dynamics.space, b, deter, params, memory)


def _deter(sequence: SequenceModel[Any], b: Builder, memory: _Memory) -> Value:
    """``h_t`` from the latent, the action and the memory before; the prior heads have no part in acting."""
    known = ("inputs", "norm", "core", "prior_head", "mixture_logits_head", "space", "prior_sees_inputs")
    check_fields(sequence, *known)
    previous = b.concat(memory.read("latent"), b.clip(memory.read(PREV_ACTION), -1.0, 1.0))
    u = activated(b, sequence.norm, apply(sequence.inputs, b, previous))
    state, deter = step_core(sequence.core, b, memory.read("core"), u)
    memory.write("core", state)
    return deter


def _latent(
    space: AbstractLatentSpace[Any, Any], b: Builder, deter: Value, params: Value, memory: _Memory
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


@_act.register
def _(policy: PPOPolicy, b: Builder, obs: Value, memory: _Memory) -> Value:
    check_fields(policy, "actor", "log_std", "moments", "action")
    seen = obs if policy.moments is None else _normalised(policy.moments, b, obs)
    out = _actor_output(policy.actor, b, seen, memory)
    return out if isinstance(policy.action, Box) else _one_hots(b, out, policy.action.groups)


def _actor_output(actor: Any, b: Builder, seen: Value, memory: _Memory) -> Value:
    """The mean of numbers, the logits of choices."""
    match actor:
        case ReactiveActor():
            check_fields(actor, "network")
            return apply(actor.network, b, seen)
        case StackActor():
            return apply(actor.network, b, _stacked(actor, b, seen, memory))
        case RecurrentActor():
            check_fields(actor, "encoder", "core", "head")
            token = seen if actor.encoder is None else apply(actor.encoder, b, seen)
            state, h = step_core(actor.core, b, memory.read("core"), token)
            memory.write("core", state)
            return apply(actor.head, b, b.concat(h, token))
        case _:
            raise ConfigError(f"export knows no actor {type(actor).__name__}; add it to s5wm.deploy.lower")


def _normalised(moments: RunningMoments, b: Builder, obs: Value) -> Value:
    check_fields(moments, "mean", "var", "count")
    inverse = 1.0 / np.sqrt(host(moments.var).astype(np.float64) + 1e-8)
    return b.clip(b.affine(obs, -host(moments.mean), inverse.astype(np.float32)), -10.0, 10.0)


def _stacked(actor: StackActor, b: Builder, obs: Value, memory: _Memory) -> Value:
    """The last frames side by side; before the first step all are the first."""
    check_fields(actor, "network", "frames", "spec")
    # As float32 from here on: what is kept of an image is its pixels, 0 to 255.
    now = b.affine(obs, 0.0, 1.0) if obs.is_uint8 else obs
    started = memory.read("started")
    before = [
        b.select(started, b.reshape(frame, now.shape), now)
        for frame in b.split(memory.read("frames"), actor.frames - 1)
    ]
    kept = [b.reshape(frame, (frame.size,)) for frame in [*before[1:], now]]
    memory.write("frames", b.concat(*kept))
    memory.write("started", b.clip(b.affine(started, 1.0, 1.0), 0.0, 1.0))
    return b.concat(*before, now)
