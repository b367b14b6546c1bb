"""Every kind of acting network: NumPy, ONNX and C do what JAX does, step after step, through resets."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box, Discrete, MultiDiscrete
from s5wm.agents.dreamer.heads import ActorConfig
from s5wm.agents.dreamer.policy import DreamerPolicy
from s5wm.agents.ppo.actor import ActorSizes, FrameStackConfig, S5MemoryConfig, build_actor
from s5wm.agents.ppo.policy import PPOPolicy
from s5wm.deploy.builder import Builder
from s5wm.deploy.c_file import to_c
from s5wm.deploy.describe import as_exported, inputs_of
from s5wm.deploy.golden import Golden
from s5wm.deploy.graph import Value
from s5wm.deploy.layers import apply, check_fields
from s5wm.deploy.lower import lower
from s5wm.deploy.onnx_file import to_onnx
from s5wm.deploy.parity import ReferenceEngine, engine_actions
from s5wm.deploy.runtime.engines import CEngine, OnnxEngine, find_compiler
from s5wm.errors import ConfigError, DivergedError, ObservationError
from s5wm.nn.conv import ConvConfig, PatchConfig
from s5wm.nn.gru import BlockGRUConfig
from s5wm.nn.mlp import Identity
from s5wm.nn.s5 import Gate, S5Config
from s5wm.nn.ssm import Discretization, GemmDtype
from s5wm.ops.running import RunningMoments
from s5wm.types import EnvSpec
from s5wm.worldmodel.build import build_world_model
from s5wm.worldmodel.latent import GaussianConfig, IdentityLatentConfig
from s5wm.worldmodel.privileged_state import PrivilegedStateConfig

from ...tiny import DREAMERV3, S5WM

VECTORS = EnvSpec((5,), np.dtype(np.float32), Box((3,)), 0.02, privileged_size=7, has_smoothing=True)
BOUNDED = replace(VECTORS, action=Box((3,), low=(-2.0, 0.0, 5.0), high=(2.0, 1.0, 9.0)))
CHOICES = replace(VECTORS, action=Discrete(4))
SEVERAL = replace(VECTORS, action=MultiDiscrete((2, 3)))
IMAGES = EnvSpec((16, 16, 3), np.dtype(np.uint8), Box((3,)), 0.02, privileged_size=7, has_smoothing=True)
MIXED = replace(IMAGES, vector_size=5)
STEPS = 40
CORE = S5Config(width=8, state_size=8, block_size=4, layers=2)
WORLD = replace(S5WM.world_model, core=CORE, units=8)
PATCHES = PatchConfig(patch=4, depth=3, multipliers=(1, 2))
CONVS = ConvConfig(depth=2, multipliers=(1, 2), kernel=5)


def dreamer(config, spec, key):
    model = build_world_model(config, spec, discount=0.99, key=key)
    features = config.core.width + model.dynamics.space.size
    actor = ActorConfig(units=8, layers=2).build(features, spec.action, key=key)
    return DreamerPolicy(model.encoder, model.dynamics, actor)


def ppo(memory, spec, key):
    sizes = ActorSizes(hidden=(8, 8), image=PATCHES)
    actor = build_actor(memory, sizes, spec, key=key)
    numbers = spec.vector_size if spec.has_images else spec.obs_shape[0]
    moments = RunningMoments.init(numbers) if numbers else None
    log_std = jnp.zeros(spec.action_size) if isinstance(spec.action, Box) else None
    return PPOPolicy(actor, log_std, moments, spec.action)


PRIVILEGED = replace(
    WORLD,
    latent=PrivilegedStateConfig(filter=replace(CORE, width=12)),
    image=PATCHES,
    target="privileged",
)
NETWORKS = {
    "categorical": (dreamer, WORLD, VECTORS),
    "categorical, GRU": (dreamer, replace(DREAMERV3.world_model, units=8, symlog_inputs=False), VECTORS),
    "gaussian, half gate, bilinear": (
        dreamer,
        replace(
            WORLD,
            core=replace(CORE, gate=Gate.HALF, discretization=Discretization.BILINEAR),
            latent=GaussianConfig(width=6),
            linear_skips=True,
        ),
        VECTORS,
    ),
    "observed": (dreamer, replace(WORLD, latent=IdentityLatentConfig(), symlog_inputs=False), VECTORS),
    "privileged state, patches": (
        dreamer,
        replace(PRIVILEGED, linear_skips=True, prior_products=True),
        IMAGES,
    ),
    "convolutions, GRU": (
        dreamer,
        replace(
            WORLD,
            core=BlockGRUConfig(width=8, hidden=6, blocks=2),
            latent=GaussianConfig(width=6),
            image=CONVS,
        ),
        IMAGES,
    ),
    "between bounds": (dreamer, WORLD, BOUNDED),
    "choices": (dreamer, WORLD, CHOICES),
    "ppo, between bounds": (ppo, None, BOUNDED),
    "ppo, several choices": (ppo, None, SEVERAL),
    "ppo": (ppo, None, VECTORS),
    "ppo, frames": (ppo, FrameStackConfig(frames=3), VECTORS),
    "ppo, S5": (ppo, S5MemoryConfig(core=CORE), VECTORS),
    "ppo, images": (ppo, None, IMAGES),
    "ppo, frames of images": (ppo, FrameStackConfig(frames=3), IMAGES),
    "mixed, categorical": (dreamer, replace(WORLD, image=PATCHES), MIXED),
    "mixed, GRU": (
        dreamer,
        replace(DREAMERV3.world_model, units=8, image=CONVS, linear_skips=True, symlog_inputs=False),
        MIXED,
    ),
    "mixed, privileged state": (
        dreamer,
        PRIVILEGED,
        MIXED,
    ),
    "mixed, ppo": (ppo, None, MIXED),
    "mixed, ppo, frames": (ppo, FrameStackConfig(frames=3), MIXED),
    "mixed, ppo, S5": (ppo, S5MemoryConfig(core=CORE), MIXED),
}


def randomised(policy, key):
    """No bias zero, no scale one: whatever were left out would show."""
    leaves, structure = jax.tree.flatten(policy)
    keys = jr.split(key, len(leaves))
    return jax.tree.unflatten(
        structure, [x + 0.3 * jr.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def observations(spec, steps, rng):
    """Random inputs of an export, and the same as the policy reads them."""

    def drawn(like):
        if like.dtype == np.uint8:
            return rng.integers(0, 256, (steps, *like.shape), dtype=np.uint8)
        return rng.normal(size=(steps, *like.shape)).astype(np.float32)

    obs = jax.tree.map(drawn, spec.zero_obs())
    return inputs_of(obs), obs


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def network(request):
    """A graph, and a flight of the policy that it is of."""
    make, config, spec = NETWORKS[request.param]
    policy = randomised(make(config, spec, jr.key(0)), jr.key(1))
    (inputs, obs), is_first = observations(spec, STEPS, np.random.default_rng(0)), np.arange(STEPS) % 17 == 0

    def advance(carry, row):
        after, action, _ = policy(carry, row[0], row[1], key=None)
        return after, as_exported(spec.action, action)

    action = jax.jit(lambda *rows: jax.lax.scan(advance, policy.initial(), rows)[1])(obs, is_first)
    return lower(policy, spec), Golden(inputs, is_first, np.asarray(action))


def error(engine, golden):
    return np.abs(engine_actions(engine, golden.inputs, golden.is_first) - golden.action).max()


def test_numpy_does_what_jax_does(network):
    graph, golden = network
    spread, are_choices = golden.action.std(0), bool(np.isin(golden.action, (0.0, 1.0)).all())
    assert (spread.max() if are_choices else spread.min()) > 1e-3  # else nothing would be compared
    assert error(ReferenceEngine(graph), golden) < 1e-5


def test_onnx_does_what_jax_does(network, tmp_path):
    graph, golden = network
    pytest.importorskip("onnxruntime")
    (tmp_path / "policy.onnx").write_bytes(to_onnx(graph, {"task": "test"}))
    engine = OnnxEngine(tmp_path / "policy.onnx")
    assert error(engine, golden) < 1e-5
    assert engine.memory.shape == graph.memory.shape


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_c_does_what_jax_does(network, tmp_path):
    graph, golden = network
    source = to_c(graph, golden.first(20), "test")
    (tmp_path / "policy.c").write_text(source.code)
    (tmp_path / "policy.h").write_text(source.header)
    engine = CEngine(tmp_path)
    assert error(engine, golden) < 1e-5
    assert engine.selftest() < 1e-5


def test_memory_is_named_and_used_whole(network):
    graph, golden = network
    assert sum(slot.size for slot in graph.slots) == graph.memory.size == graph.next_memory.size
    engine = ReferenceEngine(graph)
    for t in range(2):
        engine.step(*(array[t] for array in golden.inputs))
    for slot in graph.slots:
        assert np.any(engine.memory[slot.start : slot.start + slot.size])


def test_a_policy_that_is_not_finite_is_refused():
    policy = ppo(None, VECTORS, jr.key(0))
    broken = eqx.tree_at(lambda p: p.actor.network.biases[0], policy, jnp.full(8, jnp.nan))
    with pytest.raises(DivergedError, match=r"actor\.network\.biases\.0 is not finite; it is not exported"):
        lower(broken, VECTORS)


def test_an_option_that_export_does_not_know_is_named():
    with pytest.raises(
        ConfigError, match=r"export does not know Identity\.dropout: leave that option at its default"
    ):
        check_fields(Identity(), "dropout")
    low = replace(WORLD, core=replace(CORE, gemm_dtype=GemmDtype.BFLOAT16))
    with pytest.raises(ConfigError, match="core.gemm_dtype is 'bfloat16'"):
        lower(dreamer(low, VECTORS, jr.key(0)), VECTORS)
    with pytest.raises(ConfigError, match="export knows no int"):
        apply(3, Builder(), Value("x", (1,)))


def both_engines(config, spec, folder):
    """Of one policy in C and ONNX, and inputs of six steps."""
    pytest.importorskip("onnxruntime")
    policy = randomised(dreamer(config, spec, jr.key(0)), jr.key(1))
    graph, (inputs, _) = lower(policy, spec), observations(spec, 6, np.random.default_rng(0))
    source = to_c(graph, Golden(inputs, np.arange(6) == 0, np.zeros((6, 3), np.float32)), "test")
    (folder / "policy.c").write_text(source.code)
    (folder / "policy.h").write_text(source.header)
    (folder / "policy.onnx").write_bytes(to_onnx(graph, {}))
    return (CEngine(folder), OnnxEngine(folder / "policy.onnx")), list(zip(*inputs, strict=True))


@pytest.mark.parametrize(("spec", "name"), [(VECTORS, "obs"), (MIXED, "vector")], ids=["vector", "mixed"])
@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_a_bad_observation_reaches_neither_memory_nor_action(spec, name, tmp_path):
    engines, steps = both_engines(replace(WORLD, image=PATCHES), spec, tmp_path)
    for engine in engines:
        for value in (np.nan, np.inf, -np.inf):
            engine.reset()
            expected = [engine.step(*each) for each in steps]
            engine.reset()
            for index, (*others, numbers) in enumerate(steps):
                bad = numbers.copy()
                bad[2] = value
                before = engine.memory.copy()
                with pytest.raises(ObservationError, match=f"is {value} at index 2 of {name}"):
                    engine.step(*others, bad)
                np.testing.assert_array_equal(engine.memory, before)
                np.testing.assert_array_equal(engine.step(*others, numbers), expected[index])


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_a_missing_or_misshapen_input_is_named(tmp_path):
    engines, steps = both_engines(replace(WORLD, image=PATCHES), MIXED, tmp_path)
    image, numbers = steps[0]
    reads = r"reads obs \(768 numbers\) and vector \(5 numbers\), and was given"
    for engine in engines:
        with pytest.raises(ObservationError, match=f"{reads} 768 numbers"):
            engine.step(image)
        with pytest.raises(ObservationError, match=f"{reads} 768 and 4 numbers"):
            engine.step(image, numbers[:4])
        with pytest.raises(ObservationError, match=f"{reads} 5 and 768 numbers"):
            engine.step(numbers, image)


def test_a_second_input_is_named_in_order_and_others_keep_theirs():
    for spec, names in ((MIXED, ["obs", "vector"]), (IMAGES, ["obs"]), (VECTORS, ["obs"])):
        graph = lower(dreamer(replace(WORLD, image=PATCHES), spec, jr.key(0)), spec)
        inputs, _ = observations(spec, 2, np.random.default_rng(0))
        assert [value.name for value in graph.inputs] == names
        golden = Golden(inputs, np.arange(2) == 0, np.zeros((2, 3), np.float32))
        header = to_c(graph, golden, "test").header
        assert ("policy_vector" in header) == ("POLICY_VECTOR" in header) == (spec is MIXED)
        typed = ", ".join(f"const policy_{name} {name}[POLICY_{name.upper()}]" for name in names)
        assert f"int policy_step(policy_state *state, {typed}, float action[POLICY_ACTIONS]);" in header
