"""Lowers PPO's policies: normalised inputs, a memory of frames or of an S5 core, a network."""

from typing import Any

import jax
import numpy as np

from s5wm.actions import Box
from s5wm.agents.ppo.actor import ImageMLP, Network, ReactiveActor, RecurrentActor, StackActor
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.builder import Builder
from s5wm.deploy.graph import Value, Values
from s5wm.deploy.layers import apply, check_fields, host, step_core
from s5wm.deploy.memory import Memory
from s5wm.errors import ConfigError
from s5wm.nn.conv import ImageEncoder
from s5wm.ops.running import RunningMoments

FRAMES = ("frames", "vector_frames")
"""Memory slots of the frames of each input (``inputs.NAMES``)."""


def ppo_slots(policy: PPOPolicy) -> dict[str, int]:
    """Sizes of the memory's slots, by name."""
    match policy.actor:
        case StackActor() as actor:
            arrays = zip(FRAMES, jax.tree.leaves(actor.initial()), strict=False)
            return {name: array.size for name, array in arrays} | {"started": 1}
        case RecurrentActor() as actor:
            return {"core": actor.initial().size}
        case _:
            return {}


def act_ppo(policy: PPOPolicy, b: Builder, inputs: Values, memory: Memory) -> Value:
    """The action vector: the mean, or the likeliest choice of each group."""
    check_fields(policy, "actor", "log_std", "moments", "action")
    seen = inputs if policy.moments is None else _normalised(policy.moments, b, inputs)
    out = _actor_output(policy.actor, b, seen, memory)
    return out if isinstance(policy.action, Box) else b.one_hots(out, policy.action.groups)


def _actor_output(actor: Any, b: Builder, seen: Values, memory: Memory) -> Value:
    """The mean of numbers, the logits of choices."""
    match actor:
        case ReactiveActor():
            check_fields(actor, "network")
            return _network(actor.network, b, seen)
        case StackActor():
            check_fields(actor, "network", "frames", "spec")
            return _network(actor.network, b, _stacked(actor.frames, b, seen, memory))
        case RecurrentActor():
            check_fields(actor, "encoder", "core", "head")
            token = _with_numbers(actor.encoder, b, seen)
            state, h = step_core(actor.core, b, memory.read("core"), token)
            memory.write("core", state)
            return apply(actor.head, b, b.concat(h, token))
        case _:
            raise ConfigError(
                f"export knows no actor {type(actor).__name__}; add it to s5wm.deploy.lower_ppo"
            )


def _network(network: Network, b: Builder, seen: Values) -> Value:
    if isinstance(network, ImageMLP):
        check_fields(network, "encoder", "head")
        return apply(network.head, b, _with_numbers(network.encoder, b, seen))
    return apply(network, b, _with_numbers(None, b, seen))


def _with_numbers(encoder: ImageEncoder | None, b: Builder, seen: Values) -> Value:
    """The image's token, followed by the numbers that come with it; vectors are their own tokens."""
    first, *numbers = seen
    return b.concat(first if encoder is None else apply(encoder, b, first), *numbers)


def _normalised(moments: RunningMoments, b: Builder, inputs: Values) -> Values:
    """Images stay as they are."""
    check_fields(moments, "mean", "var", "count")
    *images, numbers = inputs
    inverse = 1.0 / np.sqrt(host(moments.var).astype(np.float64) + 1e-8)
    scaled = b.affine(numbers, -host(moments.mean), inverse.astype(np.float32))
    return (*images, b.clip(scaled, -10.0, 10.0))


def _stacked(frames: int, b: Builder, seen: Values, memory: Memory) -> Values:
    """The last frames of each input side by side; before the first step all are the first."""
    started = memory.read("started")
    stacked: list[Value] = []
    for name, each in zip(FRAMES, seen, strict=False):
        # As float32 from here on: what is kept of an image is its pixels, 0 to 255.
        now = b.affine(each, 0.0, 1.0) if each.is_uint8 else each
        kept = [b.reshape(frame, now.shape) for frame in b.split(memory.read(name), frames - 1)]
        window = [*(b.select(started, frame, now) for frame in kept), now]
        memory.write(name, b.concat(*(b.reshape(frame, (frame.size,)) for frame in window[1:])))
        stacked.append(b.concat(*window))
    memory.write("started", b.clip(b.affine(started, 1.0, 1.0), 0.0, 1.0))
    return tuple(stacked)
