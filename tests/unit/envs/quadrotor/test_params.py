import jax
import jax.numpy as jnp
import pytest

from s5wm.envs.quadrotor import rotors
from s5wm.envs.quadrotor.params import GRAVITY, QuadConfig


@pytest.mark.parametrize(
    ("config", "ratio"),
    [
        (QuadConfig(), 4.61),
        (QuadConfig(thrust_to_weight=5.0), 5.0),
        (QuadConfig(thrust_to_weight=2.5), 2.5),
        (QuadConfig(name="kolibri"), 6.49),
    ],
)
def test_thrust_to_weight(config, ratio):
    params = config.build()
    assert float(params.thrust_to_weight) == pytest.approx(ratio, abs=5e-3)
    # the motors can turn fast enough to give it
    speed = rotors.speed_of(params, jnp.full(4, params.thrust_max))
    assert float(jnp.sum(rotors.thrust(params, speed)) / (params.mass * GRAVITY)) == pytest.approx(
        ratio, abs=5e-3
    )


@pytest.mark.parametrize("name", ["agil5", "kolibri"])
def test_leaves_are_float32_arrays(name):
    for leaf in jax.tree.leaves(QuadConfig(name=name).build()):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
        assert not leaf.weak_type


def test_configuration_errors_say_what_to_do():
    # the run-time type checker of the tests would speak first
    config = object.__new__(QuadConfig)
    object.__setattr__(config, "name", "agil6")
    with pytest.raises(ValueError, match="kolibri"):
        config.__post_init__()
    for ratio in (0.9, 8.0, float("nan")):
        with pytest.raises(ValueError, match="choose a value inside"):
            QuadConfig(thrust_to_weight=ratio)


def test_a_quadrotor_that_cannot_yaw_or_descend_is_refused():
    with pytest.raises(ValueError, match=r"quad\.torque_coeff is 0\.0; it must be positive"):
        QuadConfig(torque_coeff=0.0)
    # 4 k_f w^2 = m g at 1086 rad/s
    said = r"rotor_speed_min is 1090\.0 rad/s, .* 7\.43 N; .* 0\.752 kg, 7\.38 N, .* less than 1086 rad/s"
    with pytest.raises(ValueError, match=said):
        QuadConfig(rotor_speed_min=1090.0)
    assert QuadConfig(rotor_speed_min=1080.0).rotor_speed_min == 1080.0
    with pytest.raises(ValueError, match="less than the weight"):
        QuadConfig(rotor_speed_min=2795.0)  # more than thrust_max, too


def test_mixer_columns_are_orthogonal():
    # what `allocate` relies on
    for name in ("agil5", "kolibri"):
        params = QuadConfig(name=name).build()
        columns = jnp.stack((jnp.ones(4), *params.rotor_pos.T, params.spin))
        gram = columns @ columns.T
        assert jnp.allclose(gram, jnp.diag(jnp.diag(gram)), atol=1e-7)
