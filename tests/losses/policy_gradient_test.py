"""Policy gradients, over all samples that a bandit can give.

The bandit has six arms, and each estimator sees k of them. Its expected
gradient and its variance are sums over all 6^k tuples, so nothing is random.
"""

import functools
import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from tests.losses.identities_test import close, few

LOGITS = (0.5, -0.3, 1.0, 0.0, -1.0, 0.2)
REWARDS = (1.0, 2.5, -0.5, 0.7, 3.0, -1.2)
OLD = (0.45, -0.2, 0.9, 0.1, -0.95, 0.1)  # what drew the samples, where it says


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


@jax.jit
def true_gradient(z):
  """The gradient of minus the expected reward."""
  return jax.grad(lambda z: -jax.nn.softmax(z) @ jnp.array(REWARDS))(z)


def reinforce(logps, rewards):
  """REINFORCE: a mean over k one-token responses."""
  return losses.reinforce(
    logps[:, None], rewards[:, None], jnp.ones((logps.size, 1), bool)
  ).mean()


def leave_one_out(rewards):
  k = rewards.size
  return k / (k - 1) * (rewards - rewards.mean())


def rloo(logps, rewards):
  return reinforce(logps, leave_one_out(rewards))


def centered(logps, rewards):
  return reinforce(
    logps,
    losses.advantages.group_centered(
      rewards[None], jnp.ones((1, rewards.size), bool)
    )[0],
  )


def remax(logps, rewards, greedy):
  return losses.remax(logps, rewards, jnp.full(logps.shape, greedy)).mean()


def in_pairs(loss):
  """The mean of a pairwise loss over neighbouring responses."""

  def estimator(logps, rewards, old):
    sides = (logps, old, rewards)
    (a, b), (c, d), (r, s) = ((x[::2], x[1::2]) for x in sides)
    return loss(a, b, c, d, r, s).mean()

  return estimator


def group(loss, **settings):
  """A loss on k one-token responses to a prompt; reference and policy agree."""

  def estimator(logps, rewards, old):
    x = logps[None, :, None]
    arrays = {
      "token_logps": x,
      "old_token_logps": old[None, :, None],
      "ref_token_logps": jax.lax.stop_gradient(x),
      "rewards": rewards[None],
      "mask": jnp.ones(x.shape, bool),
      "valid": jnp.ones(x.shape[:2], bool),
    }
    names = losses.array_parameters(loss)
    return loss(*(arrays[name] for name in names), **settings)[0]

  return estimator


def exact(estimator, k, shift=0.0, old=LOGITS):
  """The expected gradient in the logits, and the variance summed over them.

  Args:
    estimator: loss of log-probs, rewards and the old policy's log-probs.
    k: number of samples that it sees.
    shift: a constant that is added to all rewards.
    old: logits of the policy that draws the samples.
  """
  arms = jnp.array(list(itertools.product(range(6), repeat=k)))
  old_logps = jax.nn.log_softmax(jnp.array(old))
  rewards = jnp.array(REWARDS) + shift

  def loss(z, tuple_):
    return estimator(
      jax.nn.log_softmax(z)[tuple_], rewards[tuple_], old_logps[tuple_]
    )

  @jax.jit
  def moments(z):
    gradients = jax.vmap(jax.grad(loss), (None, 0))(z, arms)
    weights = jnp.exp(old_logps[arms].sum(-1))
    mean = weights @ gradients
    return mean, weights @ (gradients**2).sum(-1) - mean @ mean

  return moments(jnp.array(LOGITS))


on_policy = lambda loss: lambda logps, rewards, old: loss(logps, rewards)
GREEDY = REWARDS[int(np.argmax(LOGITS))]


def table(shift):
  """Estimator -> (expected gradient, variance) with 4 samples."""
  return {
    "reinforce": exact(on_policy(reinforce), 4, shift),
    "remax": exact(
      lambda logps, rewards, old: remax(logps, rewards, GREEDY + shift),
      4,
      shift,
    ),
    "p3o": exact(in_pairs(losses.p3o), 4, shift),
    "p3o_joint": exact(in_pairs(losses.p3o_joint), 4, shift),
    "rloo": exact(on_policy(rloo), 4, shift),
  }


def test_bias_and_variance():
  z = jnp.array(LOGITS)
  plain, moved = table(0.0), table(10.0)
  for name, (mean, variance) in plain.items():
    close(mean, true_gradient(z), 1e-12)
    close(moved[name][0], true_gradient(z), 1e-12)
    if name != "reinforce":
      close(moved[name][1], variance, 1e-9)
  variance = {name: float(v) for name, (_, v) in plain.items()}
  # REINFORCE's, from its formula: (E r^2 |grad log pi|^2 - |g|^2) / k
  pi, r = np.exp(jax.nn.log_softmax(z)), np.array(REWARDS)
  scores = np.eye(6) - pi
  squares = (scores**2).sum(-1)
  g = (pi * r) @ scores
  close(variance["reinforce"], (pi @ (r**2 * squares) - g @ g) / 4)
  r = r + 10
  close(moved["reinforce"][1], (pi @ (r**2 * squares) - g @ g) / 4)
  assert moved["reinforce"][1] > 20 * variance["reinforce"]
  # P3O wastes half the comparisons that leave-one-out makes
  assert variance["rloo"] < variance["p3o"]
  close(variance["p3o"], variance["p3o_joint"])


def test_a_mean_that_includes_oneself_shrinks_the_gradient():
  for k in (2, 4):
    mean, _ = exact(on_policy(centered), k)
    close(mean, (k - 1) / k * true_gradient(jnp.array(LOGITS)), 1e-12)
    dr, _ = exact(group(losses.dr_grpo), k)
    close(dr, mean, 1e-12)
    half, _ = exact(group(losses.dr_grpo, length=2.0), k)
    close(half, mean / 2, 1e-12)


def test_grpo_is_biased():
  """Its direction is nearly right, but its length is wrong."""
  true = true_gradient(jnp.array(LOGITS))
  mean, _ = exact(group(losses.grpo, eps=1e-12), 4)
  cosine = mean @ true / jnp.linalg.norm(mean) / jnp.linalg.norm(true)
  assert 0.98 < cosine < 1 - 1e-6
  scale = jnp.linalg.norm(mean) / jnp.linalg.norm(true)
  assert abs(scale - 0.75) > 0.05
  shifted, _ = exact(group(losses.grpo, eps=1e-12), 4, shift=10.0)
  close(shifted, mean)


def test_two_samples_are_leave_one_out():
  pairs, pairs_variance = exact(in_pairs(losses.p3o), 2)
  rloo_mean, rloo_variance = exact(on_policy(rloo), 2)
  close(pairs, rloo_mean, 1e-12)
  close(pairs_variance, rloo_variance, 1e-12)
  r, old = jnp.array(REWARDS), jax.nn.log_softmax(jnp.array(LOGITS))

  def slope(loss, arms):
    objective = lambda z: loss(jax.nn.log_softmax(z)[arms], r[arms], old[arms])
    return jax.grad(objective)(jnp.array(LOGITS))

  arms = jnp.array(list(itertools.product(range(6), repeat=2)))
  slopes = lambda loss: jax.jit(jax.vmap(lambda x: slope(loss, x)))(arms)
  for loss in (losses.p3o, losses.p3o_joint):
    close(slopes(in_pairs(loss)), slopes(on_policy(rloo)), 1e-12)


def test_importance_weights_correct_for_the_old_policy():
  true = true_gradient(jnp.array(LOGITS))
  wide = functools.partial(losses.p3o, clip=1e6)
  close(exact(in_pairs(wide), 2, old=OLD)[0], true, 1e-12)
  wide = functools.partial(losses.p3o_joint, clip=0.9)  # which no pair reaches
  close(exact(in_pairs(wide), 2, old=OLD)[0], true, 1e-12)
  narrow = functools.partial(losses.p3o_joint, clip=0.0)
  assert abs(exact(in_pairs(narrow), 2, old=OLD)[0] - true).max() > 1e-3


# ------------------------------------------------------------------ PPO

seeds = st.integers(0, 99)


def tokens(seed):
  rng = np.random.default_rng(seed)
  logps, advantages = rng.uniform(-4, -0.1, (3, 5)), rng.normal(size=(3, 5))
  return jnp.array(logps), jnp.array(advantages), jnp.array(logps < -0.8)


@jax.jit
def _ppo_and_reinforce(logps, advantages, mask, clip):
  """Gradients of the two losses at the old policy."""
  ppo = lambda x: losses.ppo_clip(x, logps, advantages, mask, clip=clip).sum()
  plain = lambda x: losses.reinforce(x, advantages, mask).sum()
  return jax.grad(ppo)(logps), jax.grad(plain)(logps)


@few
@hypothesis.given(seed=seeds, clip=st.sampled_from([1e-3, 0.2, 1e9]))
def test_ppo_at_the_old_policy_is_reinforce(seed, clip):
  close(*_ppo_and_reinforce(*tokens(seed), clip))


def test_ppo_stops_where_leaving_would_pay():
  token = lambda ratio, advantage: (
    jnp.array([[math.log(ratio)]]),
    jnp.zeros((1, 1)),
    jnp.array([[advantage]]),
    jnp.ones((1, 1), bool),
  )
  gradient = jax.jit(jax.grad(lambda *x: losses.ppo_clip(*x)[0]))
  for ratio, advantage, loss, slope in (
    (1.5, 2.0, -2.4, 0.0),  # good and likelier already
    (0.5, 2.0, -1.0, -1.0),  # good and not likely enough
    (0.5, -2.0, 1.6, 0.0),  # bad and given up already
    (1.5, -2.0, 3.0, 3.0),  # bad and likelier: all of it counts
    (1.1, 2.0, -2.2, -2.2),
  ):
    arrays = token(ratio, advantage)
    close(losses.ppo_clip(*arrays), [loss])
    close(gradient(*arrays), slope)


def test_value_clip():
  gradient = jax.jit(jax.grad(lambda *x: losses.value_clip(*x)[0]))
  for new, old, target, loss, slope in (
    (1.0, 1.0, 3.0, 2.0, -2.0),
    (1.5, 1.0, 3.0, 1.62, 0.0),  # as if at 1.2
    (0.5, 1.0, 3.0, 3.125, -2.5),  # left, and is worse off
    (3.0, 1.0, 3.0, 1.62, 0.0),
  ):
    arrays = [jnp.array([[x]]) for x in (new, old, target, True)]
    close(losses.value_clip(*arrays), [loss])
    close(gradient(*arrays), slope)


def test_good_rewards_raise_log_probs():
  """Descending on a loss raises the reward: this checks all losses' signs."""
  x = jnp.full((1, 2, 1), -1.0)
  arrays = (x, jnp.array([[1.0, -1.0]]))
  ones = jnp.ones(x.shape, bool)
  for loss in (
    lambda x: losses.grpo(x, arrays[0], x, arrays[1], ones, ones[..., 0])[0],
    lambda x: losses.dr_grpo(x, arrays[0], arrays[1], ones, ones[..., 0])[0],
    lambda x: losses.reinforce(x[..., 0], arrays[1], ones[..., 0])[0],
    lambda x: losses.remax(x[0, :, 0], arrays[1][0], jnp.zeros(2)).sum(),
  ):
    up, down = jax.jit(jax.grad(loss))(x)[0, :, 0]
    assert up < 0 < down


def test_grpo_pulls_to_the_reference_where_rewards_are_equal():
  x = jnp.array([[[-1.0, -2.0], [-3.0, -9.0]]])
  ref = jnp.array([[[-1.5, -1.0], [-3.0, 0.0]]])
  mask = jnp.array([[[True, True], [True, False]]])
  same, valid = jnp.ones((1, 2)), jnp.ones((1, 2), bool)
  values = losses.grpo(x, x, ref, same, mask, valid, beta=0.5)
  penalty = losses.kl.k3(x, ref)
  # means over each response's tokens, then over the responses
  close(values[0], 0.5 * (penalty[0, 0].mean() + penalty[0, 1, 0]) / 2)
  none = losses.grpo(x, x, ref, same, mask, ~valid)
  close(none, 0)


# ---------------------------------------------------------------- f-DPG

TARGET = (0.1, 0.4, -0.6, 0.9, 0.0, -1.5)
DIVERGENCES = {
  "reverse_kl": lambda pi, p: pi @ jnp.log(pi / p),
  "forward_kl": lambda pi, p: p @ jnp.log(p / pi),
  "js": lambda pi, p: (
    pi @ jnp.log(2 * pi / (pi + p)) + p @ jnp.log(2 * p / (pi + p))
  ),
  "tv": lambda pi, p: jnp.abs(pi - p).sum() / 2,
  "forward_chi2": lambda pi, p: ((p - pi) ** 2 / pi).sum(),
  "reverse_chi2": lambda pi, p: ((p - pi) ** 2 / p).sum(),
}


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("baseline", [0.0, -1.7])
def test_f_dpg_follows_its_divergence(name, baseline):
  loss = losses.CATALOGUE[f"f_dpg_{name}"].function
  z, target = jnp.array(LOGITS), jax.nn.softmax(jnp.array(TARGET))
  pi = jax.nn.softmax(z)  # the sampler, held fixed
  divergence = lambda z: DIVERGENCES[name](jax.nn.softmax(z), target)
  sampled = lambda z: (
    pi @ loss(jax.nn.log_softmax(z), jnp.log(target), baseline=baseline)
  )
  expected, gradient = jax.jit(
    lambda z: (jax.grad(divergence)(z), jax.grad(sampled)(z))
  )(z)
  close(gradient, expected, 1e-12)
  assert abs(expected).max() > 1e-2


def test_rlhf_is_reverse_kl_to_the_tilted_reference():
  beta, z = 0.3, jnp.array(LOGITS)
  log_ref, r = jax.nn.log_softmax(jnp.array(OLD)), jnp.array(REWARDS)
  target = jax.nn.log_softmax(log_ref + r / beta)
  pi = jax.nn.softmax(z)
  penalised = r - beta * (jnp.log(pi) - log_ref)
  rl = jax.grad(
    lambda z: pi @ losses.remax(jax.nn.log_softmax(z), penalised, jnp.zeros(6))
  )(z)
  dpg = jax.grad(
    lambda z: pi @ losses.f_dpg_reverse_kl(jax.nn.log_softmax(z), target)
  )(z)
  close(beta * dpg, rl, 1e-12)


def test_total_variation_ignores_ties():
  logps = jnp.array([-1.0, -2.0, -3.0])
  tied = losses.f_dpg_tv(logps, jnp.array([-1.0, -3.0, -2.0]))
  close(tied, [0, -1, 1.5])
