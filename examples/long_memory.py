"""S5 on its own learns to remember a cue through a long stretch of noise.

The first step of an episode shows one of four cues; then come 60 steps of noise, and at the last step the
network must name the cue.  Two episodes are packed into every training sequence, so the network also has
to forget the first cue at the reset.  Chance is 25 %.
"""

import argparse
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int

from s5wm.nn.mlp import Linear
from s5wm.nn.s5 import S5, S5Config
from s5wm.nn.ssm import ssm_parameter_labels
from s5wm.types import Key, Scalar

CUES = 4
EPISODES = 2
LEARNING_RATE = 3e-3


class Recall(eqx.Module):
    """An S5 core and a linear read-out of the cue."""

    core: S5
    head: Linear

    def __init__(self, *, key: Key) -> None:
        k_core, k_head = jr.split(key)
        config = S5Config(width=32, state_size=32, layers=2, dt_min=3e-3, dt_max=0.3)
        self.core = config.build(CUES + 1, key=k_core)
        self.head = Linear(config.width, CUES, key=k_head)

    def __call__(self, u: Float[Array, "T U"], is_first: Bool[Array, " T"]) -> Float[Array, "E K"]:
        """Logits at the last step of each of the ``E`` episodes."""
        _, y = self.core.scan(self.core.initial(), u, is_first)
        last = y.reshape(EPISODES, -1, y.shape[-1])[:, -1]
        return jax.vmap(self.head)(last)


def sample(delay: int, *, key: Key) -> tuple[Float[Array, "T U"], Bool[Array, " T"], Int[Array, " E"]]:
    """Inputs (one-hot cue, then noise in the last channel), resets and the cues of one sequence."""
    k_cue, k_noise = jr.split(key)
    cues = jr.randint(k_cue, (EPISODES,), 0, CUES)
    u = jnp.zeros((EPISODES, delay + 1, CUES + 1))
    u = u.at[:, 0, :CUES].set(jax.nn.one_hot(cues, CUES))
    u = u.at[:, 1:, CUES].set(jr.normal(k_noise, (EPISODES, delay)))
    is_first = jnp.zeros((EPISODES, delay + 1), bool).at[:, 0].set(True)
    return u.reshape(-1, CUES + 1), is_first.reshape(-1), cues


def optimizer() -> optax.GradientTransformation:
    """Adam; time constants and frequencies move ten times as fast as weights."""
    rates = {"rest": optax.adam(LEARNING_RATE), "ssm": optax.adam(10 * LEARNING_RATE)}
    return optax.partition(rates, ssm_parameter_labels)


def loss(model: Recall, delay: int, batch: int, *, key: Key) -> tuple[Scalar, Scalar]:
    """Cross-entropy and accuracy on a fresh batch."""
    u, is_first, cues = jax.vmap(lambda k: sample(delay, key=k))(jr.split(key, batch))
    logits = jax.vmap(model)(u, is_first)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, cues)
    return jnp.mean(cross_entropy), jnp.mean(jnp.argmax(logits, -1) == cues)


@partial(jax.jit, static_argnames=("delay", "batch", "updates"))
def train(
    state: tuple[Recall, optax.OptState], key: Key, *, delay: int, batch: int, updates: int
) -> tuple[tuple[Recall, optax.OptState], tuple[Float[Array, " H"], Float[Array, " H"]]]:
    """``updates`` gradient steps; losses and accuracies of each."""

    def update(
        state: tuple[Recall, optax.OptState], key: Key
    ) -> tuple[tuple[Recall, optax.OptState], tuple[Scalar, Scalar]]:
        model, opt_state = state
        (value, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(model, delay, batch, key=key)
        changes, opt_state = optimizer().update(gradient, opt_state, model)
        return (optax.apply_updates(model, changes), opt_state), (value, accuracy)

    return jax.lax.scan(update, state, jr.split(key, updates))


def main(*, delay: int = 60, batch: int = 32, chunks: int = 8, updates: int = 50, seed: int = 0) -> float:
    """Train, print the progress, and return the accuracy over the last chunk."""
    k_model, k_train = jr.split(jr.key(seed))
    model = Recall(key=k_model)
    state = (model, optimizer().init(model))
    accuracy = 0.0
    for chunk, k_chunk in enumerate(jr.split(k_train, chunks)):
        state, (losses, accuracies) = train(state, k_chunk, delay=delay, batch=batch, updates=updates)
        accuracy = float(accuracies.mean())
        print(
            f"update {(chunk + 1) * updates:4d}   loss {float(losses.mean()):.3f}   recalled {accuracy:6.1%}"
        )
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--delay", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(delay=options.delay, seed=options.seed)
