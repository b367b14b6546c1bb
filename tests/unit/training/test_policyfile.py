import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.agents.ppo.agent import PPOConfig
from s5wm.envs.toys import DoubleIntegratorConfig
from s5wm.errors import CorruptError
from s5wm.runs.policyfile import load_policy, named_leaves, save_policy

AGENT = PPOConfig(units=4).build(DoubleIntegratorConfig().build().spec)


def policy(seed: int) -> object:
    return AGENT.policy(AGENT.init(jax.random.key(seed)))


def test_round_trip_into_shapes(tmp_path: Path) -> None:
    path = tmp_path / "policy.npz"
    save_policy(path, policy(1))
    loaded = load_policy(path, jax.eval_shape(lambda: policy(0)))
    assert set(named_leaves(loaded)) == set(named_leaves(policy(1)))
    jax.tree.map(np.testing.assert_array_equal, loaded, policy(1))
    assert "actor.network.weights.0" in named_leaves(loaded)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"a": np.zeros(2, np.float32)}, r"a in .* is float32\[2\], its configuration asks for float32\[3\]"),
        ({"a": np.zeros(3, np.float64)}, "float64"),
        ({"a": np.array([1.0, np.inf, 0.0], np.float32)}, "not finite"),
        ({"b": np.zeros(3, np.float32)}, "array"),
        ({}, "lacks the array a"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, stored: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "policy.npz"
    np.savez(path, **stored)
    with pytest.raises(CorruptError, match=message):
        load_policy(path, {"a": jax.ShapeDtypeStruct((3,), jnp.float32)})


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(self.target),))

    target = ""


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_is_never_run(tmp_path: Path, wrapped: bool) -> None:
    bomb, path = Bomb(), tmp_path / "policy.npz"
    Bomb.target = str(tmp_path / "exploded")
    if wrapped:
        np.savez(path, a=np.array([bomb], dtype=object))
    else:
        path.write_bytes(pickle.dumps(bomb))
    with pytest.raises(CorruptError):
        load_policy(path, {"a": jax.ShapeDtypeStruct((1,), jnp.float32)})
    assert not (tmp_path / "exploded").exists()


def test_a_policy_of_ppo_from_before_its_actor_had_a_network_is_read(tmp_path: Path) -> None:
    weights = jnp.arange(3.0)
    save_policy(tmp_path / "policy.npz", {"actor": {"weights": [weights]}, "log_std": jnp.ones(1)})
    template = {"actor": {"network": {"weights": [weights]}}, "log_std": jnp.ones(1)}
    loaded = load_policy(tmp_path / "policy.npz", template)
    np.testing.assert_array_equal(loaded["actor"]["network"]["weights"][0], weights)
