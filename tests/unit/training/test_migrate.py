"""What a checkpoint of an older schema lacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from s5wm.errors import CorruptError
from s5wm.runs.migrate import SCHEMA, added_since

EXPECTED = {
    "actor.env_state.inner.margin": jax.ShapeDtypeStruct((4,), jnp.float32),
    "actor.env_state.inner.gates": jax.ShapeDtypeStruct((4,), jnp.int32),
}


def test_flights_of_schema_3_have_met_no_rim_yet():
    added = added_since(3, EXPECTED)
    assert set(added) == {"actor.env_state.inner.margin"}
    np.testing.assert_array_equal(added["actor.env_state.inner.margin"], np.full(4, 0.75, np.float32))


def test_the_present_schema_lacks_nothing():
    assert added_since(SCHEMA, EXPECTED) == {}


def test_an_unknown_schema_is_refused():
    with pytest.raises(CorruptError, match="reads 1 to"):
        added_since(SCHEMA + 1, EXPECTED)
