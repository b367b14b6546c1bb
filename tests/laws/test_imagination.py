"""Laws of learning in imagination (method specification, property tests 24-26 and 28-30)."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from s5wm.actions import Box
from s5wm.agents.dreamer.heads import ActorConfig, CriticConfig
from s5wm.agents.dreamer.imagination import (
    ActorCriticConfig,
    Networks,
    Rollouts,
    actor_loss,
    critic_loss,
    imagine_rollouts,
    replay_critic_loss,
)
from s5wm.ops.returns import lambda_return
from s5wm.ops.running import ReturnScale
from s5wm.types import Reward, TimeStep
from s5wm.worldmodel.dynamics import imagine
from s5wm.worldmodel.latent import IdentityLatent
from s5wm.worldmodel.sequence import squash_action

HORIZON = 4
CONFIGS = {
    mode: ActorCriticConfig(imagination_horizon=HORIZON, gradient=mode, entropy=0.0, lambda_=0.8)
    for mode in ("reinforce", "dynamics")
}
OWN = replace(CONFIGS["dynamics"], own_returns=True)
UNIT = ReturnScale(jnp.float32(0.0), jnp.float32(0.0))
HALF = jnp.float32(0.5)


@pytest.fixture(scope="module")
def lab(make_lab):
    return make_lab("gaussian")


def test_gradients_end_where_the_environment_clips_an_action():
    """Else a policy at its bounds would feel no cost of its spread: the form is the environment's own clip."""
    actions = jnp.array([-3.0, -0.9, 0.0, 0.9, 3.0])
    np.testing.assert_array_equal(squash_action(actions), Box((5,)).decode(actions))
    slope = jax.grad(lambda a: squash_action(a).sum())(actions)
    np.testing.assert_array_equal(slope, [0.0, 1.0, 1.0, 1.0, 0.0])


def networks_of(model, **spread):
    """An actor and critics that say something, of a model."""
    k_actor, k_critic, k_value, k_slow = jr.split(jr.key(1), 4)
    features = model.dynamics.initial().latent.feature.shape[0]
    # Actions stay within [-1, 1]: at the bounds, where gradients end, finite differences would average both sides.
    actor = ActorConfig(units=8, layers=1, **spread).build(features, Box((2,)), key=k_actor)
    actor = eqx.tree_at(lambda a: a.network.out.weight, actor, replace_fn=lambda w: 20 * w)
    critic = CriticConfig(units=8, layers=1, bins=21, limit=3.0).build(features, key=k_critic)

    def wake(key):
        weight = 0.3 * jr.normal(key, critic.network.out.weight.shape)
        return eqx.tree_at(lambda c: c.network.out.weight, critic, weight)

    return Networks(model, actor, wake(k_value), wake(k_slow))


@pytest.fixture(scope="module")
def nets(lab):
    return networks_of(lab.model, std_min=0.05, std_max=0.1)


@eqx.filter_jit
def imagined(config, nets, starts, weight):
    return imagine_rollouts(config, nets, starts, smoothing_weight=weight, key=jr.key(2))


@eqx.filter_jit
def gradients(config, nets, starts, weight):
    """Of the actor's and of the critic's loss in every network."""

    def losses(nets):
        rolled = imagine_rollouts(config, nets, starts, smoothing_weight=weight, key=jr.key(2))
        return jnp.stack([actor_loss(config, nets.actor, rolled, UNIT)[0], critic_loss(config, nets, rolled)])

    _, pull = jax.vjp(losses, nets)
    return pull(jnp.array([1.0, 0.0]))[0], pull(jnp.array([0.0, 1.0]))[0]


@pytest.fixture(scope="module")
def starts(lab):
    return lab.observe().belief


def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


def test_rollouts_start_where_they_should_and_pair_rewards_with_arrivals(nets, starts):
    """Returns rebuilt step by step from the heads' words on each imagined state."""
    config = CONFIGS["reinforce"]
    rolled = imagined(config, nets, starts, HALF)
    assert 0.05 < np.abs(rolled.action).max() < 1.0
    np.testing.assert_allclose(rolled.feature[:, 0], starts.latent.feature, rtol=1e-6)
    said = nets.model.predict(rolled.feature)
    reward = np.asarray(said.reward_nominal + 0.5 * said.reward_smoothing)
    cont, value = np.asarray(said.cont), np.asarray(nets.critic(rolled.feature).mean())
    assert reward.std() > 0.05 and value.std() > 0.05
    following, expected = value[:, HORIZON], np.zeros((8, HORIZON))
    for i in reversed(range(HORIZON)):
        mixed = 0.2 * value[:, i + 1] + 0.8 * following
        following = expected[:, i] = reward[:, i + 1] + cont[:, i + 1] * mixed
    np.testing.assert_allclose(rolled.returns, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rolled.weight, np.cumprod(cont[:, :-1], axis=1), rtol=1e-4)
    np.testing.assert_allclose(rolled.value, value, rtol=1e-4, atol=1e-5)


def test_rollouts_from_a_terminal_state_have_no_weight(nets, starts):
    dead = eqx.tree_at(lambda n: n.model.cont.out.bias, nets, jnp.full(1, -40.0))
    rolled = imagined(CONFIGS["reinforce"], dead, starts, HALF)
    assert rolled.weight.max() < 1e-6
    assert imagined(CONFIGS["reinforce"], nets, starts, HALF).weight.max() > 0.1


@pytest.mark.parametrize("mode", ["reinforce", "dynamics"])
def test_each_loss_moves_its_own_network(nets, starts, mode):
    """The world model and the slow critic are held by both losses, whatever the gradient."""
    of_actor, of_critic = gradients(CONFIGS[mode], nets, starts, HALF)
    assert largest(of_actor.actor) > 1e-4
    assert largest(of_critic.critic) > 1e-4
    for held in (of_actor.model, of_actor.critic, of_actor.slow_critic):
        assert largest(held) == 0.0
    for held in (of_critic.model, of_critic.actor, of_critic.slow_critic):
        assert largest(held) == 0.0


def test_dynamics_gradient_is_that_of_the_imagined_return(nets, starts):
    """Against finite differences of the weighted return along one component of the actor's last bias."""
    config = CONFIGS["dynamics"]
    weight = imagined(config, nets, starts, HALF).weight

    def objective(shift):
        moved = eqx.tree_at(lambda n: n.actor.network.out.bias, nets, replace_fn=lambda b: b.at[0].add(shift))
        return float(jnp.mean(weight * imagined(config, moved, starts, HALF).returns))

    step = 1e-2
    slope = (objective(step) - objective(-step)) / (2 * step)
    gradient = gradients(config, nets, starts, HALF)[0].actor.network.out.bias[0]
    assert abs(slope) > 1e-4
    assert -float(gradient) == pytest.approx(slope, rel=0.02)


def test_an_action_answers_for_the_return_of_its_own_state_alone(nets, starts):
    """``w_i dR_i / da_i`` from the derivatives of all returns in all actions; those of other returns are not small."""
    config, key = OWN, jr.key(2)
    k_noise, k_act = jr.split(key)
    dynamics, count = nets.model.dynamics, starts.latent.stoch.shape[0]
    noise = dynamics.space.noise(k_noise, (count, HORIZON))
    draws = jr.normal(k_act, (count, HORIZON + 1, 2))

    def returns(shift, start, n, d):
        def act(feature, draw):
            return nets.actor(feature).sample_with(draw[0]) + draw[1]

        feature = imagine(dynamics, start, act, (d, shift), noise=n).feature
        said, value = nets.model.predict(feature), nets.critic(feature).mean()
        reward = said.reward_nominal + HALF * said.reward_smoothing
        return lambda_return(reward, said.cont, value, value[-1], config.lambda_)

    whole = jax.jit(jax.vmap(jax.jacrev(returns)))(
        jnp.zeros_like(draws), starts, noise, draws
    )  # [K, H, R, A]
    own = np.stack([whole[:, i, i] for i in range(HORIZON)], axis=1)
    rolled = imagined(config, nets, starts, HALF)
    assert rolled.action_gradient is not None
    expected = np.asarray(rolled.weight)[..., None] * own
    np.testing.assert_allclose(rolled.action_gradient, expected, rtol=2e-4, atol=1e-6)
    later = np.abs(whole[:, 1, 0]).mean()
    assert (
        later > 0.1 * np.abs(own[:, 0]).mean()
    )  # R_1 depends on a_0 as well, and a sum of returns would count it


@pytest.mark.slow
def test_both_gradients_have_the_same_mean(nets, starts):
    """Over 30 000 rollouts from one state, of the actor's last bias: log-probabilities against derivatives."""
    count = 30_000
    belief = jax.tree.map(lambda x: jnp.broadcast_to(x[3], (count, *x.shape[1:])), starts)
    loud = networks_of(nets.model, std_min=0.2, std_max=0.3)
    loud = eqx.tree_at(lambda n: n.actor.network.out.weight, loud, replace_fn=lambda w: w / 20)
    found = {
        mode: np.asarray(gradients(config, loud, belief, HALF)[0].actor.network.out.bias)[:2]
        for mode, config in (("reinforce", CONFIGS["reinforce"]), ("dynamics", OWN))
    }
    assert np.abs(found["dynamics"]).max() > 5e-4
    np.testing.assert_allclose(found["reinforce"], found["dynamics"], rtol=0.05, atol=3e-5)


class EveryChance(IdentityLatent):
    """Its noise of many samples fills the chances of all steps evenly (a Kronecker sequence); normals are zero."""

    def noise(self, key, shape):
        count, steps = shape
        places = np.outer(np.arange(count), 1.3247179572447 ** -np.arange(1.0, steps + 1)) % 1.0  # in float64
        return jnp.concatenate([jnp.zeros((*shape, self.width)), jnp.float32(places[..., None])], axis=-1)


class SilentChance(EveryChance):
    """The same without what the score of its choices adds to a gradient."""

    def choice_log_prob(self, dist, noise):
        return jnp.zeros(noise.shape[:-1])


@pytest.mark.parametrize(
    ("horizon", "own", "count"),
    [
        pytest.param(1, False, 20_000, marks=pytest.mark.faults),
        (2, False, 20_000),
        pytest.param(2, True, 120_000, marks=pytest.mark.faults),  # half a minute
    ],
)
def test_dynamics_gradient_sees_what_the_prior_chooses(make_lab, horizon, own, count):
    """Steps of a mixture, against differences of the mean return over all chances."""
    lab = make_lab("observed")

    def nets_with(kind):
        space = lab.model.dynamics.space
        space = kind(space.width, space.std, space.changes)
        model = eqx.tree_at(lambda m: m.dynamics.space, lab.model, space)
        # The weights of the returns are held constant in the gradient: let them not depend on what is chosen.
        model = eqx.tree_at(lambda m: m.cont.out.weight, model, replace_fn=jnp.zeros_like)
        return networks_of(model, std_min=1e-4, std_max=2e-4)

    nets = nets_with(EveryChance)
    # At a lambda of 1 own returns are those of the first state.
    config = replace(OWN, lambda_=1.0) if own else CONFIGS["dynamics"]
    config = replace(config, imagination_horizon=horizon)
    belief = jax.tree.map(lambda x: jnp.broadcast_to(x[2], (count, *x.shape[1:])), lab.observe().belief)

    def moved(shift):
        return eqx.tree_at(lambda n: n.actor.network.out.bias, nets, replace_fn=lambda b: b.at[1].add(shift))

    def objective(shift):
        rolled = imagined(config, moved(shift), belief, HALF)
        weighted = rolled.weight * rolled.returns
        return float(jnp.mean(weighted[:, 0]) / horizon if own else jnp.mean(weighted))

    step = 0.02
    slope = (objective(step) - objective(-step)) / (2 * step)
    gradient = -float(gradients(config, nets, belief, HALF)[0].actor.network.out.bias[1])
    assert gradient == pytest.approx(slope, rel=0.03)

    blind = -float(gradients(config, nets_with(SilentChance), belief, HALF)[0].actor.network.out.bias[1])
    assert abs(blind - slope) > 0.04 * abs(slope)  # more than the law allows


def test_actor_gradient_equals_that_of_differentiating_the_whole_rollout(nets, starts):
    """The plain form: actor's parameters are differentiated inside the loop, step by step."""
    config, key = CONFIGS["dynamics"], jr.key(2)

    def plain(actor):
        k_noise, k_act = jr.split(key)
        dynamics, count = nets.model.dynamics, starts.latent.stoch.shape[0]
        noise = dynamics.space.noise(k_noise, (count, HORIZON))
        draws = jr.normal(k_act, (count, HORIZON + 1, 2))
        feature = jax.vmap(
            lambda b, n, d: imagine(dynamics, b, lambda f, e: actor(f).sample_with(e), d, noise=n)
        )(starts, noise, draws).feature
        said, value = nets.model.predict(feature), nets.critic(feature).mean()
        reward = said.reward_nominal + HALF * said.reward_smoothing
        returns = jax.vmap(lambda r, c, v: lambda_return(r, c, v, v[-1], config.lambda_))(
            reward, said.cont, value
        )
        weight = jax.lax.stop_gradient(jnp.cumprod(said.cont[:, :-1], axis=1))
        return -jnp.mean(weight * returns)

    expected = jax.jit(jax.grad(plain))(nets.actor)
    found = gradients(config, nets, starts, HALF)[0].actor
    assert largest(expected) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), found, expected)


def test_smoothing_counts_as_much_as_its_weight(nets, starts):
    """The curriculum: at weight 0 the smoothing head changes nothing, at weight 1 it does; returns are linear."""
    config = CONFIGS["reinforce"]
    returns = {w: imagined(config, nets, starts, jnp.float32(w)).returns for w in (0.0, 0.5, 1.0)}
    np.testing.assert_allclose(returns[0.5], (returns[0.0] + returns[1.0]) / 2, atol=1e-5)
    assert np.abs(returns[1.0] - returns[0.0]).max() > 1e-2
    other = eqx.tree_at(lambda n: n.model.reward_smoothing.out.weight, nets, replace_fn=lambda w: -w)
    np.testing.assert_array_equal(imagined(config, other, starts, jnp.float32(0.0)).returns, returns[0.0])
    assert np.abs(imagined(config, other, starts, jnp.float32(1.0)).returns - returns[1.0]).max() > 1e-2
    for mine, theirs in zip(
        gradients(config, nets, starts, jnp.float32(0.0)),
        gradients(config, other, starts, jnp.float32(0.0)),
        strict=True,
    ):
        jax.tree.map(np.testing.assert_array_equal, (mine.actor, mine.critic), (theirs.actor, theirs.critic))


@pytest.mark.parametrize("mode", ["reinforce", "dynamics"])
def test_policy_gradient_of_a_bandit_is_the_analytic_one(mode):
    """``E[-(a - 1/2)^2] = -(mu - 1/2)^2 - sigma^2`` for one step of 40000 copies."""
    config = CONFIGS[mode]
    actor = ActorConfig(units=8, layers=1, std_min=0.2, std_bias=0.0).build(3, Box((1,)), key=jr.key(5))
    actor = eqx.tree_at(lambda a: a.network.out.bias, actor, jnp.array([0.3, -0.4]))
    feature = jnp.ones((40000, 2, 3))

    @jax.jit
    def gradient(actor):
        def loss(actor):
            noise = jr.normal(jr.key(6), (40000, 2, 1))
            action = jax.lax.stop_gradient(actor(feature).sample_with(noise))
            returns = -jnp.square(action[:, :1, 0] - 0.5)
            slope = None if mode == "reinforce" else -2.0 * (action[:, :1] - 0.5)
            value, weight = jnp.full((40000, 2), -0.5), jnp.ones((40000, 1))
            rolled = Rollouts(feature, action, noise, returns, value, weight, slope)
            return actor_loss(config, actor, rolled, UNIT)[0]

        return jax.grad(loss)(actor).network.out.bias

    dist = actor(feature[0, 0])
    mean, std = float(dist.loc[0]), float(dist.scale[0])
    share = (std - 0.2) / 0.8  # the sigmoid between the bounds 0.2 and 1
    expected = [2 * (mean - 0.5) * (1 - mean**2), 2 * std * 0.8 * share * (1 - share)]
    np.testing.assert_allclose(gradient(actor), expected, atol=0.02)
    assert min(np.abs(expected)) > 0.1


def test_advantages_are_scaled_weighted_and_joined_by_entropy():
    """The loss written out, for one rollout of one step."""
    config = replace(CONFIGS["dynamics"], entropy=0.1)
    actor = ActorConfig(units=8, layers=1).build(3, Box((2,)), key=jr.key(5))
    feature, action = jnp.ones((1, 2, 3)), jnp.zeros((1, 2, 2))
    returns, value, weight = jnp.array([[5.0]]), jnp.array([[2.0, 0.0]]), jnp.array([[0.7]])
    rolled = Rollouts(feature, action, action, returns, value, weight, jnp.zeros((1, 1, 2)))
    loss, _ = actor_loss(config, actor, rolled, ReturnScale(jnp.float32(-2.0), jnp.float32(4.0)))
    entropy = float(actor(feature[0, 0]).entropy())
    assert loss == pytest.approx(-0.7 * ((5.0 - 2.0) / 6.0 + 0.1 * entropy), rel=1e-5)


def test_critic_loss_is_the_mean_over_all_states(nets, starts):
    """As officially: ``mean(w (CE(R) + CE(slow)))``, not divided by the mean weight; in NumPy from the logits."""
    config = CONFIGS["reinforce"]
    rolled = imagined(config, nets, starts, HALF)
    bins = np.asarray(nets.critic(rolled.feature).bins, np.float64)

    def cross_entropy(logits, x):
        logits, x = np.asarray(logits, np.float64), np.clip(np.asarray(x, np.float64), bins[0], bins[-1])
        above = np.clip(np.searchsorted(bins, x, side="right"), 1, bins.size - 1)
        share = (x - bins[above - 1]) / (bins[above] - bins[above - 1])
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        left = np.take_along_axis(log_probs, above[..., None] - 1, -1)[..., 0]
        right = np.take_along_axis(log_probs, above[..., None], -1)[..., 0]
        return -(1 - share) * left - share * right

    feature = rolled.feature[:, :-1]
    logits, slow = nets.critic(feature).logits, nets.slow_critic(feature).mean()
    weight = np.asarray(rolled.weight, np.float64)
    assert weight.mean() < 0.8  # else both forms are nearly one
    expected = np.mean(weight * (cross_entropy(logits, rolled.returns) + cross_entropy(logits, slow)))
    assert float(critic_loss(config, nets, rolled)) == pytest.approx(expected, rel=1e-4)


def flags(row, rows):
    return jnp.zeros((1, rows), bool).at[0, row].set(True)


@eqx.filter_jit
def replayed(nets, timestep, bootstrap, weight):
    """Mean target of the rows that count, and the gradient in the features."""
    feature = jr.normal(jr.key(8), (*bootstrap.shape, nets.model.config.core.width + 4))

    def loss(feature):
        return replay_critic_loss(
            CONFIGS["reinforce"], nets, feature, timestep, bootstrap=bootstrap, smoothing_weight=weight
        )

    gradient, metrics = jax.grad(loss, has_aux=True)(feature)
    return metrics["return/replayed"], gradient


@pytest.mark.parametrize("terminal", [False, True])
def test_replay_returns_bootstrap_at_truncation_and_not_at_termination(nets, terminal):
    """Rows 0, 1 (last), 2 (first): only row 0 and 2 count, and row 0 sees nothing of the next episode."""
    rows, last = 4, flags(1, 4)
    no = jnp.zeros((1, rows), bool)
    reward = jnp.array([[9.0, 0.25, 0.0, 0.0]])
    bootstrap = jnp.array([[7.0, -0.5, 30.0, 0.0]])
    timestep = TimeStep(
        obs=jnp.zeros((1, rows, 5)),
        privileged=jnp.zeros((1, rows, 3)),
        reward=Reward(reward, jnp.zeros((1, rows))),
        is_first=flags(2, rows),
        is_last=last,
        is_terminal=last & terminal,
    )
    mean, gradient = replayed(nets, timestep, bootstrap, HALF)
    target = 0.25 + (0.0 if terminal else 0.9 * -0.5)
    assert mean == pytest.approx(target / 2, rel=1e-5)  # the target of row 2 is 0
    assert np.all(gradient[0, 1] == 0.0) and np.all(gradient[0, 3] == 0.0)
    assert np.abs(gradient[0, 0]).max() > 0 and np.abs(gradient[0, 2]).max() > 0
    running, _ = replayed(nets, replace(timestep, is_last=no, is_terminal=no), bootstrap, HALF)
    assert abs(running - mean) > 0.1


def test_old_replay_changes_its_targets_with_the_weight(nets):
    rows = 4
    no = jnp.zeros((1, rows), bool)
    timestep = TimeStep(
        obs=jnp.zeros((1, rows, 5)),
        privileged=jnp.zeros((1, rows, 3)),
        reward=Reward(jnp.zeros((1, rows)), jnp.array([[0.0, 0.0, 1.0, 1.0]])),
        is_first=no,
        is_last=no,
        is_terminal=no,
    )
    zero = jnp.zeros((1, rows))
    assert replayed(nets, timestep, zero, 0 * HALF)[0] == 0.0
    # (0.72 * 1.72 + 1.72 + 1) / 3 times the weight, with 0.72 = discount * lambda
    assert replayed(nets, timestep, zero, HALF)[0] == pytest.approx(0.5 * (0.72 * 1.72 + 2.72) / 3, rel=1e-5)


def test_gradient_limit_shortens_each_action_gradient_by_itself():
    """Of one tanh mean: ``dL/dm = -mean(clipped g_i) tanh'(m)``; what lies below the limit stays."""
    actor = ActorConfig(units=8, layers=1, std_min=0.2, std_bias=0.0).build(3, Box((2,)), key=jr.key(5))
    feature, noise = jnp.ones((3, 3, 3)), jnp.zeros((3, 3, 2))
    slopes = np.array([[[0.3, 0.4], [6.0, 8.0]], [[0.0, 0.0], [-300.0, 400.0]], [[0.5, 0.0], [0.0, -2.0]]])

    def gradient(limit, scale):
        config = replace(CONFIGS["dynamics"], gradient_limit=limit)

        def loss(shift):
            moved = eqx.tree_at(lambda a: a.network.out.bias, actor, replace_fn=lambda b: b.at[:2].add(shift))
            action = jnp.zeros((3, 3, 2))
            arrays = (jnp.zeros((3, 2)), jnp.zeros((3, 3)), jnp.ones((3, 2)))
            rolled = Rollouts(feature, action, noise, *arrays, jnp.asarray(slopes, jnp.float32))
            return actor_loss(config, moved, rolled, scale)[0]

        return jax.grad(loss)(jnp.zeros(2))

    mean = np.asarray(actor(feature[0, 0]).loc)
    for scale in (UNIT, ReturnScale(jnp.float32(-3.0), jnp.float32(1.0))):
        scaled = slopes / float(scale.value)
        norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
        clipped = np.where(norm > 1.0, scaled / np.maximum(norm, 1e-9), scaled)
        expected = -clipped.mean((0, 1)) * (1.0 - mean**2)
        np.testing.assert_allclose(gradient(1.0, scale), expected, rtol=1e-4)
        whole = -scaled.mean((0, 1)) * (1.0 - mean**2)
        np.testing.assert_allclose(gradient(None, scale), whole, rtol=1e-4)
