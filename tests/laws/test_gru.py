"""Laws of the block GRU: parallel inputs equal single steps, resets forget, and the official formulation agrees."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.nn.gru import BlockGRUConfig

STEPS, INPUTS = 9, 6
CONFIG = BlockGRUConfig(width=12, hidden=5, blocks=3)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def core():
    return CONFIG.build(INPUTS, key=jr.key(0))


@pytest.fixture(scope="module")
def inputs():
    k_memory, k_u = jr.split(jr.key(1))
    return jr.normal(k_memory, (12,)), jr.normal(k_u, (STEPS, INPUTS))


def resets(*rows):
    return jnp.isin(jnp.arange(STEPS), jnp.array(rows, jnp.int32))


@pytest.mark.parametrize("unroll", [1, 4])
def test_scan_equals_folding_step(inputs, unroll):
    core = BlockGRUConfig(width=12, hidden=5, blocks=3, unroll=unroll).build(INPUTS, key=jr.key(0))
    (memory, u), is_first = inputs, resets(3, 4)
    memories, outputs = core.scan(memory, u, is_first)
    for t in range(STEPS):
        memory, output = core.step(memory, u[t], is_first[t])
        np.testing.assert_allclose(memories[t], memory, **TOLERANCE)
        np.testing.assert_allclose(outputs[t], output, **TOLERANCE)


def test_a_reset_forgets_and_keeps_its_own_input(core, inputs):
    memory, u = inputs
    out = core.scan(memory, u, resets(4))[1]
    other = core.scan(memory + 1.0, u.at[:4].add(1.0), resets(4))[1]
    np.testing.assert_array_equal(out[4:], other[4:])
    assert np.all(np.abs(out[:4] - other[:4]).max(axis=-1) > 1e-3)
    alone = core.scan(core.initial(), u[4:], resets()[4:])[1]
    np.testing.assert_allclose(out[4:], alone, **TOLERANCE)
    assert np.abs(core.scan(memory, u.at[4].add(1.0), resets(4))[1] - out)[4].max() > 1e-3


def test_no_gradient_crosses_a_reset(core, inputs):
    memory, u = inputs
    gradient = jax.grad(lambda u: core.scan(memory, u, resets(4))[1][4:].sum())(u)
    assert np.all(gradient[:4] == 0.0)
    assert np.all(np.abs(gradient[4:]).max(axis=-1) > 1e-4)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def norm_silu(x, norm):
    x = x / np.sqrt(np.mean(x**2) + 1e-4) * np.asarray(norm.scale)
    return x * sigmoid(x)


def test_a_step_is_the_official_one(core, inputs):
    """In numpy, with what all blocks read copied beside the slice of each, as the official code does it."""
    h, u = (np.asarray(x, np.float64) for x in (inputs[0], inputs[1][0]))
    look = norm_silu(np.asarray(core.hidden.weight) @ h + np.asarray(core.hidden.bias), core.hidden_norm)
    shared = np.concatenate([look, u])
    dense = np.concatenate([core.dyn_hidden, core.dyn_input.weight], axis=1).reshape(3, 4, -1)
    mixed = np.stack(
        [
            np.concatenate([core.dyn.weight[g], dense[g]], axis=1)
            @ np.concatenate([h[4 * g : 4 * g + 4], shared])
            for g in range(3)
        ]
    )
    mixed = norm_silu(mixed.reshape(-1) + np.asarray(core.dyn_input.bias), core.dyn_norm)
    expected = []
    for g in range(3):
        gates = np.asarray(core.gates.weight[g]) @ mixed[4 * g : 4 * g + 4]
        reset, candidate, update = gates[:4], gates[4:8], sigmoid(gates[8:] - 1.0)
        expected.append(update * np.tanh(sigmoid(reset) * candidate) + (1.0 - update) * h[4 * g : 4 * g + 4])
    actual = core.step(jnp.asarray(h, jnp.float32), jnp.asarray(u, jnp.float32), jnp.asarray(False))[0]
    np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-5, atol=1e-6)


def test_a_fresh_core_has_the_official_scale():
    """The fan-in counts the inputs of all eight blocks: pre-activations are sqrt(8) smaller than unit inputs."""
    core = BlockGRUConfig(width=512, hidden=64).build(128, key=jr.key(3))
    h, look, u = (jr.normal(jr.key(n), (size,)) for n, size in ((4, 512), (5, 64), (6, 128)))
    mixed = core.dyn(h).reshape(-1) + core.dyn_hidden @ look + core.dyn_input(u)
    assert float(jnp.std(mixed)) == pytest.approx(8**-0.5, rel=0.15)
    assert float(jnp.std(core.gates.weight)) == pytest.approx(512**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"width": 0}, "core.width is 0"),
        ({"width": 100}, "must be a multiple of the blocks, e.g. 96"),
        ({"unroll": 0}, "core.unroll is 0"),
    ],
)
def test_odd_configurations_are_refused(values, says):
    with pytest.raises(ValueError, match=says):
        BlockGRUConfig(**values)
