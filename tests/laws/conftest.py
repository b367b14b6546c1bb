"""A tiny world model and a chunk that has everything laws trip over: carried-in state and resets inside."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from s5wm.actions import Box
from s5wm.nn.conv import ConvConfig, PatchConfig
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.s5 import S5Config
from s5wm.types import EnvSpec, Metrics, Reward, TimeStep
from s5wm.worldmodel.build import build_world_model
from s5wm.worldmodel.chunk import Chunk, Context
from s5wm.worldmodel.config import BinsConfig, PosteriorInput, RewardMixtureConfig
from s5wm.worldmodel.dynamics import Belief, Latent, Posterior
from s5wm.worldmodel.latent import CategoricalConfig, GaussianConfig, IdentityLatent, IdentityLatentConfig
from s5wm.worldmodel.model import WorldModel
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig

from ..tiny import WORLD_MODEL

SPEC = EnvSpec(
    (5,), np.dtype(np.float32), privileged_size=3, action=Box((2,)), ctrl_dt=0.02, has_smoothing=True
)
IMAGES = EnvSpec(
    (8, 8, 3), np.dtype(np.uint8), privileged_size=3, action=Box((2,)), ctrl_dt=0.02, has_smoothing=True
)
STEPS = 8
CORE = S5Config(width=8, state_size=8, block_size=4, layers=2, dt_min=0.1, dt_max=1.0)
SMALL = replace(
    WORLD_MODEL,
    core=CORE,
    latent=CategoricalConfig(groups=3, classes=4),
    units=8,
    bins=BinsConfig(count=21, limit=3.0),
)
GRU = BlockGRUConfig(width=8, hidden=4, blocks=2)
GAUSSIAN = replace(
    SMALL,
    latent=GaussianConfig(width=4),
    target="privileged",
    linear_skips=True,
    prior_sees_inputs=True,
    symlog_inputs=False,
)
OBSERVED = replace(
    GAUSSIAN,
    latent=IdentityLatentConfig(std=0.1, changes=(0.1, 1.0)),
    target="observation",
    prior_products=True,
)
BELIEVED = replace(
    GAUSSIAN,
    latent=PrivilegedStateConfig(states=OBSERVED.latent, filter=replace(CORE, width=4)),
    learned_scale=True,
)
CONFIGS = {
    "categorical": SMALL,
    "dreamerv3": replace(SMALL, core=GRU, posterior=PosteriorInput.MEMORY),
    "gaussian": GAUSSIAN,
    "s5-memory": replace(GAUSSIAN, posterior=PosteriorInput.MEMORY),
    "gru-observation": replace(GAUSSIAN, core=GRU),
    "gru-memory": replace(GAUSSIAN, core=replace(GRU, unroll=3), posterior=PosteriorInput.MEMORY),
    "observed": OBSERVED,
    "observed-privileged": replace(
        OBSERVED,
        target="privileged",
        reward_mixture=RewardMixtureConfig(sizes=(0.1, 1.0), bounds=(-30.0, 30.0)),
    ),
    "gaussian-symlog": replace(GAUSSIAN, symlog_inputs=True),
    "believed": BELIEVED,
    "gru-believed": replace(
        BELIEVED, core=GRU, latent=replace(BELIEVED.latent, filter=replace(GRU, width=4))
    ),
    "image-believed": replace(BELIEVED, image=PatchConfig(patch=2, depth=2, multipliers=(1, 2))),
    "image": replace(SMALL, image=PatchConfig(patch=2, depth=2, multipliers=(1, 2))),
    "image-privileged": replace(
        GAUSSIAN,
        core=GRU,
        posterior=PosteriorInput.MEMORY,
        image=ConvConfig(depth=2, multipliers=(1, 2), kernel=3),
    ),
}

# What each adds to the others' paths is tested by itself: a GRU and its unrolling, a target, a filter of a GRU.
REPEATS = ("gru-observation", "gru-memory", "observed", "gaussian-symlog", "gru-believed")


TERMS = ("decoder", "reward_nominal", "reward_smoothing", "cont", "dyn", "rep")


class Study(NamedTuple):
    """What a world model's loss says of a chunk."""

    loss: Array
    metrics: Metrics
    gradient: WorldModel


@dataclass(frozen=True)
class Lab:
    """A model, a chunk and its noise."""

    model: WorldModel
    chunk: Chunk
    noise: Array

    def observe(self, chunk: Chunk | None = None) -> Posterior:
        return observe(self.model, self.chunk if chunk is None else chunk, self.noise)

    def told(self) -> Posterior:
        return self.model.teacher_forced(self.chunk, self.observe(), noise=self.noise)

    def study(self, *terms: str, model: WorldModel | None = None, chunk: Chunk | None = None) -> Study:
        """With the gradient of the given terms, or of all."""
        weights = {name: jnp.float32(not terms or name in terms) for name in TERMS}
        return study(
            self.model if model is None else model,
            self.chunk if chunk is None else chunk,
            self.noise,
            weights,
        )


observe = eqx.filter_jit(lambda model, chunk, noise: model.observe(chunk, noise=noise))


@eqx.filter_jit
def study(model: WorldModel, chunk: Chunk, noise: Array, weights: dict[str, Array]) -> Study:
    """The loss, its terms, and the gradient of their weighted sum; compiled once for any weights."""

    def weighted(model: WorldModel) -> tuple[Array, tuple[Array, Metrics]]:
        loss, learned = model.loss(chunk, noise=noise)
        metrics = learned.metrics
        return sum(weight * metrics[f"loss/{name}"] for name, weight in weights.items()), (loss, metrics)

    gradient, (loss, metrics) = jax.grad(weighted, has_aux=True)(model)
    return Study(loss, metrics, gradient)


@functools.cache
def build_model(kind: str) -> WorldModel:
    """With heads that say something."""
    k_model, k_wake = jr.split(jr.key(6))
    return _wake(build_world_model(CONFIGS[kind], spec_of(kind), discount=0.9, key=k_model), k_wake)


def spec_of(kind: str) -> EnvSpec:
    """What the model of this kind sees."""
    return IMAGES if kind.startswith("image") else SPEC


def observations(spec: EnvSpec, key: Array) -> Array:
    """``STEPS`` random ones."""
    if spec.has_images:
        return jr.randint(key, (STEPS, *spec.obs_shape), 0, 256).astype(jnp.uint8)
    return 2 * jr.normal(key, (STEPS, *spec.obs_shape))


def build_lab(kind: str, is_first: tuple[int, ...]) -> Lab:
    """``is_first`` lists the rows that open an episode; the row before each ends one."""
    keys = iter(jr.split(jr.key(7), 16))
    model = build_model(kind)
    initial = model.dynamics.initial()
    first = jnp.isin(jnp.arange(STEPS), jnp.array(is_first, jnp.int32))
    last = jnp.roll(first, -1).at[-1].set(False)
    timestep = TimeStep(
        obs=observations(spec_of(kind), next(keys)),
        privileged=jr.normal(next(keys), (STEPS, 3)),
        reward=Reward(jr.normal(next(keys), (STEPS,)), jr.normal(next(keys), (STEPS,))),
        is_first=first,
        is_last=last,
        is_terminal=last & (jnp.arange(STEPS) % 2 == 0),
    )
    leaves, kind_of_memory = jax.tree.flatten(initial.memory)
    memory = jax.tree.unflatten(kind_of_memory, [jr.normal(next(keys), leaf.shape) for leaf in leaves])
    noise, space = model.dynamics.space.noise(next(keys), (STEPS + 1,)), model.dynamics.space
    head_size = space.size if isinstance(space, IdentityLatent) else space.params_size
    stoch = space.sample(space.posterior(jr.normal(next(keys), (head_size,))), noise[0])
    latent = Latent(jnp.zeros(model.config.core.width), stoch)
    context = Context(Belief(memory, latent), jr.normal(next(keys), (3,)), jr.normal(next(keys), (2,)))
    action = 1.5 * jr.normal(next(keys), (STEPS, 2))
    return Lab(model, Chunk(context, timestep, action), noise[1:])


def _wake(model: WorldModel, key: Array) -> WorldModel:
    """Reward heads that say something (they start at zero), a posterior that spends more than the free nats."""

    def heads(model: WorldModel) -> tuple[Array, ...]:
        return model.reward_nominal.out.weight, model.reward_smoothing.out.weight

    woken = [0.3 * jr.normal(k, w.shape) for k, w in zip(jr.split(key), heads(model), strict=True)]
    model = eqx.tree_at(heads, model, woken)
    if isinstance(model.dynamics.space, IdentityLatent):
        return model
    return eqx.tree_at(lambda m: m.dynamics.posterior_head.out.weight, model, replace_fn=lambda w: 5 * w)


def all_but_repeats(kinds: Iterable[str]) -> list[Any]:
    """All kinds, those that repeat paths of others for ``make faults``."""
    return [pytest.param(kind, marks=[pytest.mark.faults] if kind in REPEATS else []) for kind in kinds]


@pytest.fixture(scope="session", params=all_but_repeats(CONFIGS))
def lab(request: pytest.FixtureRequest) -> Lab:
    """Every point of the lattice and every latent; episodes open at rows 3, 4 and 7."""
    return build_lab(request.param, (3, 4, 7))


@pytest.fixture(scope="session")
def make_lab() -> Callable[..., Lab]:
    """``make_lab(kind, is_first=...)``; one compile per kind and function, whatever the chunk holds."""
    return lambda kind, is_first=(3, 4, 7): build_lab(kind, is_first)
