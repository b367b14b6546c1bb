import jax
import jax.numpy as jnp
import numpy as np

import s5wm
from s5wm.envs.readable import ReadableMetrics
from s5wm.types import OptionalMetric


def test_metrics_of_an_episode_print_as_numbers() -> None:
    env = s5wm.make("toy/double-integrator")
    state, _ = env.reset(jax.random.key(0))
    metrics = env.episode_metrics(state)
    assert repr(metrics) == f"{{'distance': {float(metrics['distance']):.6g}}}"
    assert isinstance(metrics["distance"], jax.Array)
    assert isinstance(jax.jit(lambda state: env.episode_metrics(state))(state), ReadableMetrics)


def test_what_an_episode_has_not_is_none_and_batches_are_lists() -> None:
    lap = OptionalMetric(jnp.asarray([5.25, 0.0]), jnp.asarray([True, False]))
    metrics = ReadableMetrics(laps=jnp.asarray([3, 0]), lap_time=lap, crash=np.float32(0.5))
    assert repr(metrics) == "{'laps': [3, 0], 'lap_time': [5.25, None], 'crash': 0.5}"
    one = jax.tree.map(lambda x: x[1], ReadableMetrics(lap_time=lap))
    assert repr(one) == "{'lap_time': None}"


def test_jax_sees_a_dictionary() -> None:
    metrics, plain = ReadableMetrics(b=jnp.ones(()), a=jnp.zeros(())), {"b": jnp.ones(()), "a": jnp.zeros(())}
    paths = [jax.tree_util.tree_flatten_with_path(each)[0] for each in (metrics, plain)]
    assert [path for path, _ in paths[0]] == [path for path, _ in paths[1]]
    with jax.disable_jit():
        assert repr(jax.vmap(lambda x: ReadableMetrics(a=x))(jnp.arange(2.0))) == "{'a': [0, 1]}"
    said: list[str] = []
    jax.make_jaxpr(lambda x: said.append(repr(ReadableMetrics(a=x))))(jnp.zeros(()))
    assert "Tracer" in said[0]  # which has no number yet
