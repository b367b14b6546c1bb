"""What a checkpoint of an older schema lacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.errors import CorruptError
from s5wm.runs.checkpoint import Checkpoints, restore
from s5wm.runs.files import read_json, write_json
from s5wm.runs.migrate import SCHEMA, added_since, copied_since

EXPECTED = {
    "actor.env_state.inner.margin": jax.ShapeDtypeStruct((4,), jnp.float32),
    "actor.env_state.inner.gates": jax.ShapeDtypeStruct((4,), jnp.int32),
    "actor.env_state.inner.buffer.actions": jax.ShapeDtypeStruct((4, 7, 10, 4), jnp.float32),
    "actor.env_state.inner.variation.params.assumed_inertia": jax.ShapeDtypeStruct((4, 3), jnp.float32),
}


def test_flights_of_schema_3_have_met_no_rim_yet():
    added = added_since(3, EXPECTED)
    assert set(added) == {"actor.env_state.inner.margin", "actor.env_state.inner.buffer.actions"}
    np.testing.assert_array_equal(added["actor.env_state.inner.margin"], np.full(4, 0.75, np.float32))


def test_moments_of_schema_6_have_no_action_and_its_controller_knew_the_inertia():
    added = added_since(6, EXPECTED)
    assert {name: leaf.shape for name, leaf in added.items()} == {
        "actor.env_state.inner.buffer.actions": (4, 7, 10, 4)
    }
    params = "actor.env_state.inner.variation.params"
    assert copied_since(6, EXPECTED) == {f"{params}.assumed_inertia": f"{params}.inertia"}


def test_a_race_of_schema_6_is_restored(tmp_path):
    """As it would have been saved then: without the action, and without the assumed inertia."""
    now = {"buffer": {"actions": np.ones((2, 4), np.float32), "states": np.ones((2, 17), np.float32)}}
    now["params"] = {"inertia": np.full(3, 0.5, np.float32), "assumed_inertia": np.ones(3, np.float32)}
    then = {"buffer": {"states": now["buffer"]["states"]}, "params": {"inertia": now["params"]["inertia"]}}
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(8, {"actor": then}, {}, {})
    kept.wait()
    path = kept.path(8) / "about.json"
    write_json(path, read_json(path) | {"schema": 6})
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), now)
    state, _ = restore(kept.path(8), {"actor": shapes})
    np.testing.assert_array_equal(state["actor"]["buffer"]["actions"], np.zeros((2, 4)))
    np.testing.assert_array_equal(state["actor"]["params"]["assumed_inertia"], np.full(3, 0.5))
    write_json(path, read_json(path) | {"schema": SCHEMA})
    with pytest.raises(CorruptError, match="belongs to another configuration"):
        restore(kept.path(8), {"actor": shapes})


def test_the_present_schema_lacks_nothing():
    assert added_since(SCHEMA, EXPECTED) == {} == copied_since(SCHEMA, EXPECTED)


def test_an_unknown_schema_is_refused():
    with pytest.raises(CorruptError, match="reads 1 to"):
        added_since(SCHEMA + 1, EXPECTED)
