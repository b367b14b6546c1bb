"""Image encoders and decoders: sizes, arithmetic, where they look, and that they can learn."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from s5wm.nn.conv import (
    ConvConfig,
    ImageEncoder,
    PatchConfig,
    PatchDown,
    PatchUp,
    build_decoder,
    build_encoder,
    pixels,
    token_size,
)
from s5wm.nn.mlp import Linear

SHAPE = (16, 16, 3)
CONFIGS = {
    "conv": ConvConfig(depth=4, multipliers=(1, 2), kernel=3),
    "patch": PatchConfig(patch=4, depth=8, multipliers=(1, 2)),
}
kinds = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))


def images(key, count, shape=SHAPE):
    return jr.randint(key, (count, *shape), 0, 256).astype(jnp.uint8)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [(ConvConfig(depth=4), 256), (ConvConfig(depth=16), 1024), (PatchConfig(), 1024)],
)
def test_tokens_of_the_presets_and_the_way_back(config, tokens):
    """DreamerV3's sizes: 256 tokens at 1m, 1024 at 12m."""

    def there_and_back(image):
        encoder = build_encoder(config, image.shape, key=jr.key(0))
        token = encoder(image)
        return token, build_decoder(config, token.shape[0], image.shape, key=jr.key(1))(token)

    token, image = jax.eval_shape(there_and_back, jax.ShapeDtypeStruct((64, 64, 3), jnp.uint8))
    assert token.shape == (tokens,) and token_size(config, (64, 64, 3)) == tokens
    assert image.shape == (64, 64, 3) and image.dtype == jnp.float32


def test_pixels_are_scaled_to_one_and_centred():
    shown = jnp.array([[[0, 51, 255]]], jnp.uint8)
    np.testing.assert_allclose(pixels(shown)[0, 0], [0.0, 0.2, 1.0])
    np.testing.assert_allclose(ImageEncoder((), ())(shown), [-0.5, -0.3, 0.5], rtol=1e-6)


@kinds
def test_decoded_pixels_lie_between_black_and_white(config):
    decoder = build_decoder(config, 5, SHAPE, key=jr.key(0))
    image = jax.jit(jax.vmap(decoder))(100 * jr.normal(jr.key(1), (4, 5)))
    assert image.shape == (4, *SHAPE)
    assert 0 <= image.min() < 0.4 and 0.6 < image.max() <= 1


@kinds
def test_what_moves_in_the_image_moves_in_the_token_map(config):
    """By one place of the last map per total stride; away from the border, where zeros are padded."""
    config = replace(config, multipliers=(1, 2))
    stride = int(np.prod(config.factors))
    shape = (8 * stride, 8 * stride, 3)
    encoder = build_encoder(config, shape, key=jr.key(0))
    image = (
        jnp.full(shape, 128, jnp.uint8)
        .at[3 * stride : 4 * stride, 3 * stride : 4 * stride]
        .set(images(jr.key(1), 1, (stride, stride, 3))[0])
    )
    moved = jnp.roll(image, (stride, stride), axis=(0, 1))
    here, there = jax.jit(jax.vmap(encoder))(jnp.stack([image, moved])).reshape(2, 8, 8, -1)
    np.testing.assert_allclose(jnp.roll(here, (1, 1), axis=(0, 1))[2:-2, 2:-2], there[2:-2, 2:-2], atol=1e-5)
    assert np.abs(here - there).max() > 0.01


def test_a_map_of_patches_is_a_strided_convolution():
    down = PatchDown(Linear(2 * 2 * 3, 5, key=jr.key(0)), 2)
    x = jr.normal(jr.key(1), (6, 4, 3))
    kernel = down.linear.weight.T.reshape(2, 2, 3, 5)
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x[None], kernel, (2, 2), "VALID", dimension_numbers=layout)[0]
    np.testing.assert_allclose(down(x), expected, rtol=1e-4, atol=1e-5)


def test_patches_go_back_where_they_came_from():
    identity = eqx.tree_at(lambda m: m.weight, Linear(12, 12, key=jr.key(0)), jnp.eye(12))
    x = jr.normal(jr.key(1), (6, 4, 3))
    np.testing.assert_array_equal(PatchUp(identity, 2)(PatchDown(identity, 2)(x)), x)


@pytest.mark.parametrize(
    "config",
    [pytest.param(CONFIGS["conv"], marks=pytest.mark.faults), CONFIGS["patch"]],  # the former takes 20 s
    ids=list(CONFIGS),
)
def test_eight_images_can_be_memorised(config):
    # Squares of one colour: local maps with few channels cannot hold noise.
    seen = jnp.repeat(jnp.repeat(images(jr.key(0), 8, (4, 4, 3)), 4, axis=1), 4, axis=2)
    encoder = build_encoder(config, SHAPE, key=jr.key(1))
    features = token_size(config, SHAPE)
    nets = (encoder, build_decoder(config, features, SHAPE, key=jr.key(2)))
    optimiser = optax.adam(1e-2)

    def loss(nets):
        encoder, decoder = nets
        return jnp.mean(jnp.square(jax.vmap(lambda x: decoder(encoder(x)))(seen) - pixels(seen)))

    @jax.jit
    def learn(nets):
        def step(carry, _):
            nets, moments = carry
            updates, moments = optimiser.update(jax.grad(loss)(nets), moments)
            return (optax.apply_updates(nets, updates), moments), None

        return loss(nets), loss(jax.lax.scan(step, (nets, optimiser.init(nets)), length=400)[0][0])

    before, after = learn(nets)
    assert before > 0.07  # about that of grey: the variance of uniform colours is 1/12
    assert after < 0.02, (before, after)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PatchConfig(patch=0), "PatchConfig.patch is 0; it must be at least 1"),
        (lambda: ConvConfig(multipliers=()), r"ConvConfig.multipliers is \(\)"),
        (
            lambda: build_encoder(ConvConfig(), (24, 24, 3), key=jr.key(0)),
            "16 times, which does not divide 24 x 24",
        ),
    ],
)
def test_sizes_that_cannot_work_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
