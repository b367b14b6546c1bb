"""Laws of the S5 spectrum, layer and stack (method specification, property tests 1-4 and 9-14)."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from s5wm.nn.hippo import block_spectrum, hippo_eigen, hippo_normal
from s5wm.nn.s5 import S5, Gate, S5Config
from s5wm.nn.ssm import DiagonalSSM, Discretization, GemmDtype, SSMOptions, ssm_parameter_labels, zoh
from s5wm.ops.pairs import ComplexPair
from s5wm.ops.recurrence import ScanMethod

SMALL = S5Config(width=6, state_size=8, block_size=4, layers=2, scan=ScanMethod.SEQUENTIAL)
OPTIONS = SSMOptions(
    discretization=Discretization.ZOH, scan_method=ScanMethod.SEQUENTIAL, gemm_dtype=GemmDtype.FLOAT32
)


def layer(
    width: int = 5, state: int = 16, block: int = 8, *, dt: tuple[float, float] = (0.01, 0.1)
) -> DiagonalSSM:
    return DiagonalSSM(width, block_spectrum(state, block), dt, OPTIONS, key=jr.key(0))


def whole(x: ComplexPair) -> np.ndarray:
    return np.asarray(x.re, np.float64) + 1j * np.asarray(x.im, np.float64)


def double(tree: eqx.Module) -> eqx.Module:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_hippo_spectrum(size: int) -> None:
    eigenvalues, vectors = hippo_eigen(size)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-12)
    np.testing.assert_allclose(np.sort(eigenvalues.imag), np.sort(-eigenvalues.imag), atol=1e-8 * size**2)
    assert np.abs(eigenvalues.imag).max() == pytest.approx(size**2 / np.pi, rel=0.05)
    rebuilt = vectors @ np.diag(eigenvalues) @ vectors.conj().T
    np.testing.assert_allclose(rebuilt, hippo_normal(size), atol=1e-10 * size**2)
    half = block_spectrum(2 * size, size)
    assert half.eigenvectors.shape == (2 * size, size)
    assert np.all(half.eigenvalues.imag < 0)
    half_sum = (half.eigenvectors * half.eigenvalues) @ half.eigenvectors.conj().T
    np.testing.assert_allclose(
        2 * half_sum.real, np.kron(np.eye(2), hippo_normal(size)), atol=1e-10 * size**2
    )


def simulate_dense(
    transition: np.ndarray, drive: np.ndarray, readout: np.ndarray, u: np.ndarray
) -> np.ndarray:
    x, out = np.zeros(transition.shape[0]), []
    for u_t in u:
        x = transition @ x + drive @ u_t
        out.append(readout @ x)
    return np.stack(out)


def dense_zoh(a: np.ndarray, b: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact hold of the real matrices, by scaling and squaring of the augmented exponential's series."""
    size, inputs = b.shape
    augmented = np.zeros((size + inputs, size + inputs))
    augmented[:size, :size], augmented[:size, size:] = a * dt, b * dt
    term = result = np.eye(size + inputs)
    small = augmented / 2**12
    for k in range(1, 14):
        term = term @ small / k
        result = result + term
    for _ in range(12):
        result = result @ result
    return result[:size, :size], result[:size, size:]


def test_layer_equals_a_dense_real_system(x64: None) -> None:
    """Catches a missing factor 2, the wrong half of the spectrum and a wrong rotation."""
    size, width, length, dt = 16, 5, 40, 0.07
    rng = np.random.default_rng(0)
    b, c, u = rng.normal(size=(size, width)), rng.normal(size=(width, size)), rng.normal(size=(length, width))
    spectrum = block_spectrum(size, 8)
    vectors = spectrum.eigenvectors
    ssm = double(layer(width, size, 8))
    b_rot, c_rot = vectors.conj().T @ b, c @ vectors
    ssm = eqx.tree_at(
        lambda s: (s.omega, s.nu, s.log_dt, s.b, s.c),
        ssm,
        (
            jnp.asarray(spectrum.eigenvalues.imag),
            jnp.full(size // 2, jnp.log(0.5)),
            jnp.full(size // 2, jnp.log(dt)),
            ComplexPair(jnp.asarray(b_rot.real), jnp.asarray(b_rot.imag)),
            ComplexPair(jnp.asarray(c_rot.real), jnp.asarray(c_rot.imag)),
        ),
    )
    zero = ComplexPair(jnp.zeros(size // 2), jnp.zeros(size // 2))
    _, y = ssm.scan(zero, jnp.asarray(u), jnp.zeros(length, bool))
    transition, drive = dense_zoh(np.kron(np.eye(2), hippo_normal(8)), b, dt)
    expected = simulate_dense(transition, drive, c, u) + np.asarray(ssm.d) * u
    np.testing.assert_allclose(y, expected, atol=1e-10)


def test_half_spectrum_equals_full_spectrum(x64: None) -> None:
    half = double(layer())
    join = lambda p, axis: ComplexPair(  # noqa: E731
        jnp.concatenate([p.re, p.re], axis), jnp.concatenate([p.im, -p.im], axis)
    )
    full = eqx.tree_at(
        lambda s: (s.nu, s.omega, s.log_dt, s.b, s.c),
        half,
        (
            jnp.concatenate([half.nu, half.nu]),
            jnp.concatenate([half.omega, -half.omega]),
            jnp.concatenate([half.log_dt, half.log_dt]),
            join(half.b, 0),
            join(half.c, 1).scaled(0.5),  # the full sum has no factor 2
        ),
    )
    u = jr.normal(jr.key(1), (20, 5))
    first = jnp.arange(20) == 9
    outputs = []
    for ssm in (half, full):
        zero = ComplexPair(jnp.zeros_like(ssm.nu), jnp.zeros_like(ssm.nu))
        x, y = ssm.scan(zero, u, first)
        readout = whole(x) @ whole(ssm.c).T
        outputs.append(y)
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-12)
    assert np.abs(readout.imag).max() < 1e-10  # conjugates cancel: the full output is real


def test_discretizations_agree_for_small_steps(x64: None) -> None:
    spectrum = block_spectrum(16, 8)
    ssm, other = (
        double(DiagonalSSM(5, spectrum, (0.01, 0.1), replace(OPTIONS, discretization=kind), key=jr.key(0)))
        for kind in Discretization
    )
    errors = []
    for dt in (1e-3, 5e-4):
        pair = [
            eqx.tree_at(lambda s: s.log_dt, s, jnp.full_like(s.log_dt, jnp.log(dt))).discretize()
            for s in (ssm, other)
        ]
        errors.append([np.abs(whole(a) - whole(b)).max() for a, b in zip(*pair, strict=True)])
    (decay_1, drive_1), (decay_2, drive_2) = errors
    assert decay_2 < decay_1 / 6  # third order per step
    assert drive_2 < drive_1 / 3.5
    assert drive_1 < 1e-2


def test_zoh_is_accurate_for_tiny_steps() -> None:
    eigenvalues = ComplexPair(jnp.full(4, -0.5), jnp.array([-20.0, -3.0, 0.0, 80.0]))
    for dt in (1e-6, 1e-3, 0.1):
        _, gain = zoh(eigenvalues, jnp.full(4, dt))
        exact = np.expm1(np.float64(np.float32(dt)) * whole(eigenvalues)) / whole(eigenvalues)
        assert np.abs(whole(gain) / exact - 1).max() < 2e-6


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_fresh_outputs_are_as_loud_as_configured(scale: float) -> None:
    model = replace(SMALL, output_scale=scale).build(3, key=jr.key(0))
    _, y = model.scan(model.initial(), jr.normal(jr.key(1), (20, 3)), jnp.arange(20) == 0)
    np.testing.assert_allclose(jnp.sqrt(jnp.square(y).mean(-1)), scale, rtol=0.02)


@pytest.mark.parametrize("method", [ScanMethod.SEQUENTIAL, ScanMethod.ASSOCIATIVE, ScanMethod.DOUBLING])
@pytest.mark.parametrize("gate", list(Gate))
def test_scan_equals_folded_steps(method: ScanMethod, gate: Gate) -> None:
    model = replace(SMALL, scan=method, gate=gate).build(3, key=jr.key(0))
    u = jr.normal(jr.key(1), (20, 3))
    first = jnp.isin(jnp.arange(20), jnp.array([4, 5, 13]))
    memory = jr.normal(jr.key(2), model.initial().shape)

    def body(
        m: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        m, y = model.step(m, *inputs)
        return m, (m, y)

    scan = jax.jit(lambda m: model.scan(m, u, first))
    with jax.default_matmul_precision("highest"):
        memories, y = scan(memory)
        _, (folded, y_folded) = jax.lax.scan(body, memory, (u, first))
    np.testing.assert_allclose(memories, folded, atol=1e-5)
    np.testing.assert_allclose(y, y_folded, atol=1e-5)
    assert memories.shape == (20, 2, SMALL.stored_states, 2)
    assert not np.allclose(memories[3], scan(model.initial())[0][3])


def test_stack_does_not_leak(x64: None) -> None:
    model = double(SMALL.build(6, key=jr.key(0)))
    first = jnp.arange(9) == 5
    memory = jnp.ones(model.initial().shape)
    u = jr.normal(jr.key(1), (9, 6))
    jacobian = jax.jit(jax.jacrev(lambda u: model.scan(memory, u, first)[1].sum(-1) + u.sum() * 0))(u)
    reach = np.abs(np.asarray(jacobian)).max(-1)  # [t, s]
    t, s = np.meshgrid(np.arange(9), np.arange(9), indexing="ij")
    visible = (s <= t) & ((s >= 5) | (t < 5))
    assert np.all(reach[~visible] == 0)
    assert np.all(reach[visible] > 0)


@pytest.mark.parametrize("poison", [1e30, np.nan])
def test_stack_survives_a_poisoned_past(poison: float) -> None:
    model = SMALL.build(6, key=jr.key(0))
    first = jnp.arange(9) == 5
    u = jr.normal(jr.key(1), (9, 6))

    @jax.jit
    def run(memory: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        after = lambda u: jnp.sum(jnp.sin(model.scan(memory, u, first)[1][5:]))  # noqa: E731
        return model.scan(memory, u, first)[1], jax.grad(after)(u)

    y, gradient = run(model.initial(), u)
    dirty_y, dirty_gradient = run(jnp.full_like(model.initial(), poison), u.at[4].set(poison))
    np.testing.assert_array_equal(y[5:], dirty_y[5:])
    np.testing.assert_array_equal(gradient[5:], dirty_gradient[5:])
    assert not np.array_equal(y[4], dirty_y[4])


def test_layer_gradients_match_finite_differences(x64: None) -> None:
    ssm = double(layer(3, 8, 4))
    u = jr.normal(jr.key(1), (7, 3))
    first = jnp.arange(7) == 3
    x0 = ComplexPair(*jr.normal(jr.key(2), (2, 4)))

    def loss(ssm: DiagonalSSM, x0: ComplexPair, u: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(ssm.scan(x0, u, first)[1]))

    arguments = (ssm, x0, u)
    gradient = jax.tree.leaves(jax.jit(jax.grad(loss, (0, 1, 2)))(*arguments))
    leaves, structure = jax.tree.flatten(arguments)
    keys = jr.split(jr.key(3), len(leaves))
    value = jax.jit(loss)
    for index, leaf in enumerate(leaves):
        direction = jr.normal(keys[index], leaf.shape)
        moved = [
            value(
                *structure.unflatten([*leaves[:index], leaf + sign * 1e-6 * direction, *leaves[index + 1 :]])
            )
            for sign in (1, -1)
        ]
        slope = (moved[0] - moved[1]) / 2e-6
        np.testing.assert_allclose(slope, jnp.vdot(gradient[index], direction), rtol=1e-5, atol=1e-8)


def test_descent_lowers_a_complex_quadratic() -> None:
    """A conjugated gradient would ascend in the imaginary parts."""
    ssm = layer()
    target = jax.tree.map(lambda p: p + 1.0, ssm.c)
    loss = lambda s: sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(s.c), jax.tree.leaves(target)))  # noqa: B905, E731
    gradient = jax.grad(loss)(ssm)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, ssm, gradient)
    assert loss(moved) < 0.7 * loss(ssm)
    im_loss = lambda s: jnp.sum((s.c.im - target.im) ** 2)  # noqa: E731
    assert im_loss(moved) < 0.7 * im_loss(ssm)


def test_stable_under_any_parameters(x64: None) -> None:
    ssm = layer()
    keys = jr.split(jr.key(0), 3)
    walk = lambda key, scale, size: jnp.cumsum(scale * jr.normal(key, (1000, size)), 0)  # noqa: E731
    updates = (walk(keys[0], 1.0, 8), walk(keys[1], 100.0, 8), walk(keys[2], 1.0, 8))

    def discretized(nu: jax.Array, omega: jax.Array, log_dt: jax.Array) -> tuple[ComplexPair, ComplexPair]:
        fields = lambda s: (s.nu, s.omega, s.log_dt)  # noqa: E731
        moved = [a + b for a, b in zip(fields(ssm), (nu, omega, log_dt), strict=True)]
        return eqx.tree_at(fields, ssm, moved).discretize()

    decay, b_bar = jax.jit(jax.vmap(discretized))(*updates)
    assert np.abs(whole(decay)).max() < 1
    assert np.all(np.isfinite(whole(b_bar)))
    decay32, _ = jax.vmap(discretized)(*(u.astype(jnp.float32) for u in updates))
    assert np.abs(whole(decay32)).max() <= 1 + 1e-6


def test_extreme_decay_gives_zeros() -> None:
    decay, gain = zoh(ComplexPair(jnp.array([-100.0]), jnp.array([5.0])), jnp.ones(1))
    assert np.abs(whole(decay)).max() < 1e-30
    assert np.all(np.isfinite(whole(gain)))


def test_long_rollout_stays_finite() -> None:
    model = SMALL.build(6, key=jr.key(0))
    body = lambda m, k: (model.step(m, jr.normal(k, (6,)), jnp.array(False))[0], None)  # noqa: E731
    memory, _ = jax.jit(lambda m: jax.lax.scan(body, m, jr.split(jr.key(1), 10_000)))(model.initial())
    assert np.all(np.isfinite(memory))
    assert np.abs(memory).max() < 100


def test_bfloat16_products_keep_a_float32_state() -> None:
    config = replace(SMALL, width=32, state_size=32, block_size=16)
    u = jr.normal(jr.key(1), (40, 32))
    first = jnp.zeros(40, bool)
    outputs = []
    for dtype in GemmDtype:
        model = replace(config, gemm_dtype=dtype).build(32, key=jr.key(0))
        memories, y = model.scan(model.initial(), u, first)
        assert memories.dtype == y.dtype == jnp.float32
        outputs.append(y)
    error = jnp.linalg.norm(outputs[0] - outputs[1]) / jnp.linalg.norm(outputs[0])
    assert 0 < error < 2e-2


def test_initial_memory_scales_and_time_steps() -> None:
    ssm = layer(64, 64, 16, dt=(0.05, 0.5))
    assert np.allclose(-np.exp(ssm.nu), -0.5)
    assert np.all((np.exp(ssm.log_dt) >= 0.05) & (np.exp(ssm.log_dt) <= 0.5))
    # Rotation keeps half the variance of a real B with rows of variance 1 / D.
    assert np.mean(ssm.b.re**2 + ssm.b.im**2) == pytest.approx(1 / 64, rel=0.1)
    assert np.mean(ssm.c.re**2 + ssm.c.im**2) == pytest.approx(2 / 64, rel=0.1)


def test_labels_mark_exactly_the_dynamics_parameters() -> None:
    tree = {"core": SMALL.build(3, key=jr.key(0)), "head": jnp.ones(3)}
    labels = ssm_parameter_labels(tree)
    assert jax.tree.structure(labels) == jax.tree.structure(tree)
    assert labels["head"] == "rest"
    core: S5 = labels["core"]
    for block in core.blocks:
        assert (block.ssm.nu, block.ssm.omega, block.ssm.log_dt) == ("ssm", "ssm", "ssm")
    assert jax.tree.leaves(labels).count("ssm") == 6
    optimizer = optax.partition({"ssm": optax.sgd(10.0), "rest": optax.sgd(1.0)}, ssm_parameter_labels)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, tree), optimizer.init(tree))
    assert np.all(updates["core"].blocks[1].ssm.omega == -10.0)
    assert np.all(updates["core"].blocks[1].ssm.d == -1.0)


def test_every_leaf_is_an_array_and_step_is_real() -> None:
    model = SMALL.build(3, key=jr.key(0))
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(model))
    jaxpr = jax.make_jaxpr(model.step)(model.initial(), jnp.zeros(3), jnp.array(False))
    assert "complex" not in str(jaxpr)
    assert SMALL.build(6, key=jr.key(0)).project is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width"),
        ({"layers": -1}, "layers"),
        ({"block_size": 5, "state_size": 10}, "even"),
        ({"state_size": 10}, "multiple"),
        ({"dt_min": 0.2}, "dt_max"),
        ({"output_scale": 0.0}, "output_scale"),
        ({"dt_min": 0.0}, "dt_min"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
