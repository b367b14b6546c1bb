"""Laws of the world model (method specification, property tests 15, 17-20, 23, 24)."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats

from s5wm.nn.conv import PatchConfig
from s5wm.types import Reward, TimeStep
from s5wm.worldmodel.build import build_world_model
from s5wm.worldmodel.config import PosteriorInput, RewardMixtureConfig
from s5wm.worldmodel.dynamics import Belief, Latent, bounded_gradient, imagine
from s5wm.worldmodel.model import SPREAD_FLOOR
from s5wm.worldmodel.privileged_state import PrivilegedStateRSSM, inner_of

from .conftest import CONFIGS, IMAGES, SPEC, STEPS, TERMS, all_but_repeats

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def assert_same(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), actual, expected)


@eqx.filter_jit
def filter_one_by_one(lab_model, chunk, noise):
    """The acting path: one step at a time, with the prior that training computes beside it."""
    dynamics = lab_model.dynamics

    def advance(carry, inputs):
        belief, prev_action = carry
        obs, action, is_first, uniform = inputs
        states, inner = dynamics, belief
        if isinstance(dynamics, PrivilegedStateRSSM):
            states, inner = dynamics.states, inner_of(belief)
        _, deter, previous = states.sequence.step(inner.memory, inner.latent.stoch, prev_action, is_first)
        prior = states.sequence.prior(deter, previous)
        belief = dynamics.step(belief, lab_model.encoder(obs), prev_action, is_first, noise=uniform)
        return (belief, action), (belief, prior)

    carry = (chunk.context.belief, chunk.context.action)
    rows = (chunk.timestep.obs, chunk.action, chunk.timestep.is_first, noise)
    return jax.lax.scan(advance, carry, rows)[1]


def test_the_parallel_pass_equals_acting_step_by_step(lab):
    out = lab.observe()
    belief, prior = filter_one_by_one(lab.model, lab.chunk, lab.noise)
    assert_same(out.belief, belief)
    assert_same(out.prior, prior)


def test_a_reset_forgets_memory_latent_and_action(lab):
    """Another past gives the same future from the first reset on, and another one before it."""
    other = jax.tree.map(lambda x: x + 1.0, lab.chunk.context)
    action = lab.chunk.action.at[2].add(1.0)  # chosen at the row before the reset: ignored
    out, moved = lab.observe(), lab.observe(replace(lab.chunk, context=other, action=action))
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[3:], b[3:]),
        (out.belief, out.prior),
        (moved.belief, moved.prior),
    )
    assert np.all(np.abs(out.belief.latent.deter[:3] - moved.belief.latent.deter[:3]).max(axis=-1) > 1e-3)


def test_context_reaches_the_first_row(lab):
    """Memory, latent and action that were carried in each matter."""
    context = lab.chunk.context
    memory, latent = context.belief.memory, context.belief.latent
    others = (
        replace(context, belief=Belief(jax.tree.map(lambda x: x + 1.0, memory), latent)),
        replace(context, belief=Belief(memory, replace(latent, stoch=latent.stoch[::-1] + 1.0))),
        replace(context, action=-context.action),
    )
    out = lab.observe().belief.latent.deter
    for other in others:
        moved = lab.observe(replace(lab.chunk, context=other)).belief.latent.deter
        assert np.abs(out[0] - moved[0]).max() > 1e-4


@pytest.mark.parametrize("kind", ["gaussian", "s5-memory", "gru-observation", "gru-memory"])
def test_causality(make_lab, kind):
    """o_t and a_t change nothing before t; h_t depends on neither, h_{t+1} on both.

    Where the posterior reads h_t, later latents depend on them too, and nowhere else.
    """
    lab = make_lab(kind, is_first=())
    recurrent = lab.model.config.posterior is PosteriorInput.MEMORY
    rows = lab.chunk.timestep.obs.shape[0]
    out = lab.observe()
    for t in range(rows):
        obs = lab.chunk.timestep.obs.at[t].add(3.0)
        seen = lab.observe(replace(lab.chunk, timestep=replace(lab.chunk.timestep, obs=obs)))
        # Turned round rather than pushed: a component beyond 1 is squashed to 1.
        acted = lab.observe(replace(lab.chunk, action=lab.chunk.action.at[t].multiply(-1.0)))
        for moved, first_posterior in ((seen, t), (acted, rows)):
            deter = np.abs(moved.belief.latent.deter - out.belief.latent.deter).max(axis=-1)
            memory = np.abs(moved.belief.memory - out.belief.memory).reshape(rows, -1).max(axis=-1)
            posterior = row_difference(moved.posterior, out.posterior)
            prior = row_difference(moved.prior, out.prior)
            for difference in (deter, memory, prior):
                assert np.all(difference[: t + 1] == 0.0)
                assert np.all(difference[t + 1 : t + 2] > 1e-4)
            first_posterior = t + 1 if recurrent and moved is acted else first_posterior
            assert np.all(posterior[:first_posterior] == 0.0)
            assert np.all(posterior[first_posterior : first_posterior + 1] > 1e-5)
            if not recurrent:
                assert np.all(posterior[first_posterior + 1 :] == 0.0)


def row_difference(left, right):
    """Of two distributions, the largest difference in any parameter, per row."""
    leaves = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return np.max([np.abs(a - b).reshape(a.shape[0], -1).max(axis=-1) for a, b in leaves], axis=0)


def test_truncation_goes_on_and_termination_does_not(make_lab):
    """The continue target is the discount at a truncation and 0 at a terminal step; is_last is not read."""
    lab = make_lab("categorical")
    no = jnp.zeros_like(lab.chunk.timestep.is_first)
    logit = lab.model.cont(lab.observe().belief.latent.feature)[:, 0]

    def cont_loss(is_last, is_terminal):
        timestep = replace(lab.chunk.timestep, is_last=is_last, is_terminal=is_terminal)
        return lab.study(chunk=replace(lab.chunk, timestep=timestep)).metrics["loss/cont"]

    def cross_entropy(target):
        return -(target * jax.nn.log_sigmoid(logit) + (1 - target) * jax.nn.log_sigmoid(-logit)).mean()

    row = no.at[2].set(True)
    going_on = jnp.full(logit.shape, 0.9)
    assert cont_loss(no, no) == pytest.approx(float(cross_entropy(going_on)), rel=1e-5)
    assert cont_loss(row, no) == cont_loss(no, no)
    assert cont_loss(row, row) == pytest.approx(float(cross_entropy(going_on.at[2].set(0.0))), rel=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "s5-memory", "gru-observation", "dreamerv3"])
def test_imagination_continues_the_parallel_pass(make_lab, kind):
    """From every row, ``predict`` with the replayed action and the latent forced is the next row: the stored
    memory is that of the right row in every layer."""
    lab = make_lab(kind, is_first=(4,))
    out = lab.observe()
    ahead = jax.vmap(lambda b, a: lab.model.dynamics.predict(b, a, noise=None))(out.belief, lab.chunk.action)
    keep = np.array([t for t in range(7) if t + 1 != 4])
    np.testing.assert_allclose(ahead.latent.deter[keep], out.belief.latent.deter[keep + 1], **TOLERANCE)
    np.testing.assert_allclose(ahead.memory[keep], out.belief.memory[keep + 1], **TOLERANCE)
    assert np.abs(ahead.memory[3] - out.belief.memory[4]).max() > 1e-3  # a reset lies between
    # Several steps on from row 4.
    belief = jax.tree.map(lambda x: x[4], out.belief)
    for t in range(4, 7):
        belief = lab.model.dynamics.predict(belief, lab.chunk.action[t], noise=None)
        np.testing.assert_allclose(belief.latent.deter, out.belief.latent.deter[t + 1], **TOLERANCE)
        belief = Belief(belief.memory, Latent(belief.latent.deter, out.belief.latent.stoch[t + 1]))


def test_imagine_folds_predict(lab):
    dynamics, horizon = lab.model.dynamics, 4
    start = jax.tree.map(lambda x: x[5], lab.observe().belief)
    k_noise, k_act = jr.split(jr.key(3))
    noises = dynamics.space.noise(k_noise, (horizon,))
    draws = jr.normal(k_act, (horizon + 1, 2))

    def act(feature, draw):
        return feature[:2] + draw

    imagined = jax.jit(lambda belief: imagine(dynamics, belief, act, draws, noise=noises))(start)
    belief, features = start, [start.latent.feature]
    for t in range(horizon):
        belief = dynamics.predict(belief, imagined.action[t], noise=noises[t])
        features.append(belief.latent.feature)
    np.testing.assert_allclose(imagined.feature, jnp.stack(features), **TOLERANCE)
    np.testing.assert_allclose(imagined.action, imagined.feature[:, :2] + draws, **TOLERANCE)


def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def set_logits(model, posterior, prior):
    """Heads that say the same whatever they read: their output is a bias."""

    def heads(model):
        prior, posterior = model.dynamics.sequence.prior_head.out, model.dynamics.posterior_head.out
        return posterior.weight, prior.weight, posterior.bias, prior.bias

    weights = [jnp.zeros_like(weight) for weight in heads(model)[:2]]
    return eqx.tree_at(heads, model, (*weights, posterior, prior))


def logits(strength):
    return jnp.zeros((3, 4)).at[:, 0].set(strength).reshape(-1)


def total_kl(strength):
    """Of three equal groups, posterior of this strength against a uniform prior."""
    q = 0.99 * np.asarray(jax.nn.softmax(jnp.array([strength, 0.0, 0.0, 0.0]))) + 0.0025
    return 3 * float(np.sum(q * np.log(q / 0.25)))


def test_free_nats_apply_to_the_sum_over_groups(make_lab):
    lab = make_lab("categorical")
    weak, strong = 0.8, 2.2  # the latter spends less than one nat per group, but more than one in all
    assert 0 < total_kl(weak) < 1 < total_kl(strong) < 3

    def metrics(strength):
        return lab.study(model=set_logits(lab.model, logits(strength), logits(0.0))).metrics

    assert metrics(weak)["loss/dyn"] == pytest.approx(1.0)
    assert metrics(strong)["loss/dyn"] == pytest.approx(total_kl(strong), rel=1e-3)
    assert metrics(strong)["loss/rep"] == pytest.approx(0.1 * total_kl(strong), rel=1e-3)
    assert metrics(strong)["latent/kl"] == pytest.approx(total_kl(strong), rel=1e-3)


@pytest.mark.parametrize("term", ["dyn", "rep"])
def test_each_kl_term_moves_its_own_side_and_none_below_the_free_nats(make_lab, term):
    lab = make_lab("categorical")

    def grads(strength):
        dynamics = lab.study(
            term, model=set_logits(lab.model, logits(strength), logits(0.0))
        ).gradient.dynamics
        return dynamics.posterior_head.out.bias, dynamics.sequence.prior_head.out.bias

    posterior, prior = map(largest, grads(2.2))
    moved, held = (prior, posterior) if term == "dyn" else (posterior, prior)
    assert moved > 1e-3
    assert held == 0.0
    assert largest(grads(0.8)) == 0.0


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_dyn_loss_reaches_the_encoder_only_through_earlier_latents(make_lab, kind):
    lab = make_lab(kind)
    assert largest(lab.study("dyn").gradient.encoder) > 1e-6
    every = replace(lab.chunk.timestep, is_first=jnp.ones(8, bool))
    cut = lab.study("dyn", chunk=replace(lab.chunk, timestep=every)).gradient
    assert largest(cut.encoder) == 0.0
    assert largest(cut.dynamics.sequence.prior_head) > 1e-6


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_rep_loss_leaves_the_prior_alone(make_lab, kind):
    lab = make_lab(kind)
    gradient = lab.study("rep").gradient
    assert largest(gradient.dynamics.sequence) == 0.0
    assert largest(gradient.encoder) > 1e-6
    assert largest(gradient.dynamics.posterior_head) > 1e-6


def test_every_part_of_the_model_learns(lab):
    """No gradient is cut by accident: each tensor of the model moves under the full loss."""
    leaves = jax.tree_util.tree_leaves_with_path(lab.study().gradient)
    assert [jax.tree_util.keystr(path) for path, leaf in leaves if not np.any(leaf != 0.0)] == []


def test_the_loss_is_the_sum_of_its_terms(lab):
    study = lab.study()
    terms = [float(value) for name, value in study.metrics.items() if name.startswith("loss/")]
    assert len(terms) == 6
    assert study.loss == pytest.approx(sum(terms), rel=1e-5)


def test_rewards_are_predicted_where_they_arrive(lab):
    """The loss of row t reads the reward of row t, with the feature of row t."""
    feature, reward = lab.told().belief.latent.feature, lab.chunk.timestep.reward
    metrics = lab.study().metrics
    nominal = -lab.model.nominal(feature).log_prob(reward.nominal).mean()
    smoothing = -lab.model.smoothing(feature).log_prob(reward.smoothing).mean()
    assert metrics["loss/reward_nominal"] == pytest.approx(float(nominal), rel=1e-5)
    assert metrics["loss/reward_smoothing"] == pytest.approx(float(smoothing), rel=1e-5)


def test_heads_promise_no_more_than_there_is():
    """A continuation of the discount at most, and rewards within the bounds of their kind."""
    mixture = RewardMixtureConfig(sizes=(0.1, 1.0), bounds=(-3.0, 0.5), smoothing_bounds=(-2.0, 0.0))
    config = replace(CONFIGS["observed-privileged"], reward_mixture=mixture)
    model = build_world_model(config, SPEC, discount=0.99, key=jr.key(0))
    width = model.dynamics.initial().latent.feature.shape[0]
    keys = iter(jr.split(jr.key(2), len(jax.tree.leaves(model))))
    loud = jax.tree.map(lambda x: x + jr.normal(next(keys), x.shape), model)  # heads begin at zero
    said = jax.vmap(loud.predict)(jr.normal(jr.key(1), (500, width)))
    assert said.reward_smoothing is not None
    assert float(said.reward_nominal.max()) == 0.5
    assert float(said.reward_smoothing.max()) == 0.0
    assert float(said.reward_smoothing.min()) == -2.0
    sure = eqx.tree_at(lambda m: m.cont.out.bias, model, jnp.full(1, 50.0))
    np.testing.assert_allclose(sure.predict(jnp.zeros(width)).cont, 0.99, rtol=1e-6)


def test_decoder_target_is_the_configured_group(lab):
    """In its own units: symlog where the encoder applies it."""
    timestep = lab.chunk.timestep
    if lab.model.config.target == "privileged":
        told = np.asarray(timestep.privileged)
        expected = np.sign(told) * np.log1p(np.abs(told)) if lab.model.config.symlog_inputs else told
        np.testing.assert_allclose(lab.model.target(timestep), expected, rtol=1e-6)
    elif timestep.obs.ndim == 4:
        np.testing.assert_allclose(lab.model.target(timestep), np.asarray(timestep.obs) / 255, rtol=1e-6)
    elif not lab.model.config.symlog_inputs:
        np.testing.assert_array_equal(lab.model.target(timestep), timestep.obs)
    else:
        np.testing.assert_allclose(
            lab.model.target(timestep), np.sign(timestep.obs) * np.log1p(np.abs(timestep.obs)), rtol=1e-6
        )


@pytest.mark.parametrize("kind", ["gaussian", "image-privileged"])
def test_privileged_state_touches_nothing_but_the_decoder(make_lab, kind):
    lab = make_lab(kind)
    timestep = replace(lab.chunk.timestep, privileged=lab.chunk.timestep.privileged + 1.0)
    moved = replace(lab.chunk, timestep=timestep)
    jax.tree.map(np.testing.assert_array_equal, lab.observe(), lab.observe(moved))
    loss, other = lab.study().metrics, lab.study(chunk=moved).metrics
    assert [name for name in loss if loss[name] != other[name]] == ["loss/decoder"]


BELIEVED = ["believed", "gru-believed", "image-believed"]


@pytest.mark.parametrize("kind", all_but_repeats(BELIEVED))
def test_a_filter_remembers_apart_from_the_dynamics(make_lab, kind):
    """What it carries in changes the first estimate, and of h_t only what follows from that."""
    lab = make_lab(kind)
    context, out = lab.chunk.context, lab.observe().belief.latent
    for part, moved_deter, moved_stoch in (("filter", False, True), ("core", True, False)):
        memory = replace(
            context.belief.memory,
            **{part: jax.tree.map(lambda x: x + 1.0, getattr(context.belief.memory, part))},
        )
        other = replace(context, belief=replace(context.belief, memory=memory))
        moved = lab.observe(replace(lab.chunk, context=other)).belief.latent
        assert (np.abs(moved.deter[0] - out.deter[0]).max() > 1e-4) == moved_deter
        assert (np.abs(moved.stoch[0] - out.stoch[0]).max() > 1e-4) == moved_stoch


@pytest.mark.parametrize("kind", all_but_repeats(BELIEVED))
def test_privileged_states_teach_the_dynamics_and_observations_the_filter(make_lab, kind):
    """No belief depends on a privileged state; dynamics and rewards learn from no observation, the filter to tell it.

    (The memory that a window begins with is one of acting, which estimates have driven.)
    """
    lab = make_lab(kind)
    timestep = replace(lab.chunk.timestep, privileged=lab.chunk.timestep.privileged + 1.0)
    context = replace(lab.chunk.context, privileged=lab.chunk.context.privileged + 1.0)
    told = replace(lab.chunk, timestep=timestep, context=context)
    jax.tree.map(np.testing.assert_array_equal, lab.observe(), lab.observe(told))
    blind = replace(told, timestep=replace(timestep, obs=jnp.zeros_like(timestep.obs)))
    seen, unseen = lab.study(chunk=told).metrics, lab.study(chunk=blind).metrics
    terms = [f"loss/{name}" for name in TERMS]
    assert [name for name in terms if seen[name] != unseen[name]] == ["loss/decoder"]
    states = lab.study(*(name for name in TERMS if name != "decoder")).gradient
    assert largest((states.encoder, states.dynamics.filter)) == 0.0
    beliefs = lab.study("decoder").gradient
    assert largest((beliefs.dynamics.states, beliefs.reward_nominal)) == 0.0
    assert largest(beliefs.encoder) > 1e-6


@pytest.mark.parametrize("kind", all_but_repeats(BELIEVED))
def test_the_pass_told_the_states_equals_following_them_one_by_one(make_lab, kind):
    lab = make_lab(kind)
    sequence, context, step = lab.model.dynamics.states.sequence, lab.chunk.context, lab.chunk.timestep
    memory, stoch, told = context.belief.memory.core, context.privileged, lab.told()
    for t in range(STEPS):
        prev_action = lab.chunk.action[t - 1] if t else context.action
        memory, deter, previous = sequence.step(memory, stoch, prev_action, step.is_first[t])
        stoch = told.belief.latent.stoch[t]
        row = jax.tree.map(lambda x, t=t: x[t], (told.belief.memory, told.belief.latent.deter, told.prior))
        assert_same(row, (memory, deter, sequence.prior(deter, previous)))
    np.testing.assert_array_equal(told.posterior.loc, step.privileged)
    # Blurred by a normal of 0.1.
    assert 0.05 < np.abs(told.belief.latent.stoch - step.privileged).mean() < 0.2


def rows_telling(privileged):
    zero, no = jnp.zeros(len(privileged)), jnp.zeros(len(privileged), bool)
    reward = Reward(zero, zero)
    obs = jnp.zeros((len(privileged), *SPEC.obs_shape))
    return TimeStep(obs, jnp.asarray(privileged), reward, is_first=no, is_last=no, is_terminal=no)


SPREAD = replace(CONFIGS["gaussian"], learned_scale=True)


def test_a_learned_spread_is_the_likelihood_of_a_laplace_distribution():
    model = build_world_model(SPREAD, SPEC, discount=0.99, key=jr.key(0))
    spread = np.asarray([0.5, 1.0, 2.0], np.float32)
    model = eqx.tree_at(lambda m: m.decoder_log_scale, model, jnp.log(spread - SPREAD_FLOOR))
    rng = np.random.default_rng(0)
    feature = jnp.asarray(rng.normal(size=(4, model.dynamics.initial().latent.feature.shape[0])), jnp.float32)
    privileged = rng.normal(size=(4, 3)).astype(np.float32)
    mean = np.asarray(jax.vmap(model.decoder)(feature))
    expected = -scipy.stats.laplace.logpdf(privileged, mean, spread).sum(-1)
    np.testing.assert_allclose(model.decoder_loss(feature, rows_telling(privileged)), expected, rtol=1e-4)


def test_a_learned_spread_settles_at_the_size_of_the_error():
    """So that entries known to a hundredth and to a tenth weigh the same; one never wrong stays bounded."""
    model = build_world_model(SPREAD, SPEC, discount=0.99, key=jr.key(0))
    feature = jnp.zeros((200, model.dynamics.initial().latent.feature.shape[0]))
    size = jnp.broadcast_to(jnp.asarray([0.1, 0.2, 0.0]), (200, 3))
    off = size * jr.rademacher(jr.key(1), (200, 3), jnp.float32)
    timestep = rows_telling(jax.vmap(model.decoder)(feature) + off)

    def loss(log_scale):
        at = eqx.tree_at(lambda m: m.decoder_log_scale, model, log_scale)
        return at.decoder_loss(feature, timestep).mean()

    settled = jnp.log(jnp.asarray([0.1 - SPREAD_FLOOR, 0.2 - SPREAD_FLOOR, 1e-8]))
    np.testing.assert_allclose(jax.grad(loss)(settled), 0.0, atol=0.02)
    assert np.isfinite(loss(settled))
    assert np.all(jax.grad(loss)(jnp.zeros(3)) > 0.7)  # far too wide


def test_no_spread_of_images():
    config = replace(SPREAD, target="observation", image=PatchConfig(patch=4, depth=2, multipliers=(1,)))
    with pytest.raises(ValueError, match="learned_scale is true, but the decoder outputs an image"):
        config.check(IMAGES)


def test_gradients_through_many_steps_stay_finite_and_small_ones_are_themselves():
    """``x <- sin(1000 x)``, 200 times: bounded forwards, beyond float32 backwards unless each step is bounded."""

    def gradient(bound):
        def last(x):
            return jax.lax.scan(lambda y, _: (jnp.sin(1000.0 * bound(y)), None), x, length=200)[0]

        return jax.grad(last)(0.3)

    assert np.isfinite(gradient(bounded_gradient))
    assert not np.isfinite(gradient(lambda y: y))
    assert jax.grad(lambda x: bounded_gradient(x) ** 2)(3.0) == 6.0
