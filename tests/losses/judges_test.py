"""Known values and identities of losses for reward models of special kinds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _double():
  with jax.enable_x64(True):
    yield


def close(x, y, tolerance=1e-12):
  np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape))


# ----------------------------------------------------- models that know raters


def test_the_kl_of_latent_vectors():
  mean, log_variance = jnp.array([0.3, -0.2]), jnp.array([0.1, -0.4])
  close(losses.latent_kl(mean, log_variance), 0.102745, 1e-5)
  close(losses.latent_kl(0 * mean, 0 * mean), 0)
  many = losses.latent_kl(normal(100, 3), normal(100, 3))
  assert (many > 0).all()
  # The mean of log q - log p over samples.
  z = mean + jnp.exp(log_variance / 2) * normal(200_000, 2)
  log_q = -((z - mean) ** 2) / 2 / jnp.exp(log_variance) - log_variance / 2
  sampled = (log_q + z**2 / 2).sum(-1)
  close(sampled.mean(), 0.102745, 3e-3)
  # Small values keep their digits.
  tiny = losses.latent_kl(jnp.zeros(1), jnp.array([1e-6]))
  close(tiny, 1e-12 / 4, 1e-6)


def test_vpl_without_its_kl_is_bradley_terry():
  chosen, rejected, mean, log_variance = *normal(2, 9), *normal(2, 9, 4)
  at = lambda weight: losses.vpl(
    chosen, rejected, mean, log_variance, kl_weight=weight
  )
  close(at(0.0), losses.bradley_terry(chosen, rejected))
  close(at(2.0) - at(0.0), 2 * losses.latent_kl(mean, log_variance))
  zero = 0 * mean
  close(
    losses.vpl(chosen, rejected, zero, zero),
    losses.bradley_terry(chosen, rejected),
  )


def test_the_kls_weight_rises_and_starts_again():
  factor = lambda t: losses.cyclical_cosine(t, period=100, baseline=0.1)
  close(factor(0), 0.1)
  close(factor(50), 0.55)
  close(factor(25), 0.1 + 0.9 * (1 - math.sqrt(0.5)) / 2)
  assert factor(99) > 0.99 and factor(100) == factor(0)
  assert factor(250) == factor(50)
  cycle = jax.vmap(factor)(jnp.arange(100))
  assert (jnp.diff(cycle) > 0).all() and cycle.max() <= 1
  with pytest.raises(UserError, match="baseline"):
    losses.cyclical_cosine(3, baseline=1.5)


def test_pal_at_known_distances():
  score = lambda distance: -jnp.array([distance])
  # The chosen response is the right one: 0.7 away, against 1.2.
  close(losses.pal_hinge(score(0.7), score(1.2)), 0.5)
  close(losses.pal_hinge(score(1.2), score(0.7)), 1.5)
  close(losses.pal_hinge(score(0.7), score(0.7)), 1)
  close(losses.pal_logistic(score(0.7), score(0.7)), math.log(2))
  slope = jax.grad(lambda x: losses.pal_hinge(x, score(1.2)).sum())
  close(slope(score(0.7)), -1)
  close(slope(score(0.1)), 0)  # beyond the margin
  chosen, rejected = normal(2, 9)
  close(
    losses.pal_logistic(chosen, rejected),
    losses.bradley_terry(chosen, rejected),
  )
  # PAL-B's cross-entropy of the two scores.
  both = jnp.stack([chosen, rejected], -1)
  close(losses.pal_logistic(chosen, rejected), -jax.nn.log_softmax(both)[:, 0])


# ------------------------------------------------------------- contrastive term


def test_one_element_and_its_own_view_have_nothing_to_lose():
  x = normal(1, 5)
  close(losses.view_matching(x, x, jnp.ones(1, bool)), 0)
  close(losses.view_matching(x, normal(1, 5), jnp.ones(1, bool)), 0)
  # Equal elements can't be told apart.
  same = jnp.repeat(x, 4, 0)
  close(losses.view_matching(same, same, jnp.ones(4, bool)), math.log(4))


def test_elements_that_fill_the_batch_are_not_there():
  x, y = normal(2, 6, 5)
  valid = jnp.array([True, True, False, True, False, True])
  spoilt = lambda z: z.at[~valid].set(jnp.nan)
  loss = losses.view_matching(spoilt(x), spoilt(y), valid)
  close(
    loss[valid], losses.view_matching(x[valid], y[valid], jnp.ones(4, bool))
  )
  close(loss[~valid], 0)
  slopes = jax.grad(lambda z: losses.view_matching(z, spoilt(y), valid).sum())(
    spoilt(x)
  )
  close(slopes[~valid], 0)
  assert np.isfinite(slopes).all()
  prototypes = normal(3, 5)
  loss, slopes = jax.value_and_grad(
    lambda z: losses.swapped_codes(z, spoilt(y), prototypes, valid).sum()
  )(spoilt(x))
  close(
    loss,
    losses.swapped_codes(
      x[valid], y[valid], prototypes, jnp.ones(4, bool)
    ).sum(),
  )
  assert np.isfinite(slopes).all()
  none = jnp.zeros(6, bool)
  slopes = jax.grad(
    lambda z: losses.swapped_codes(z, y, prototypes, none).sum()
  )(x)
  close(slopes, 0)


def test_scale_doesnt_count_and_likeness_does():
  x, y = normal(2, 6, 5)
  there = jnp.ones(6, bool)
  close(
    losses.view_matching(3 * x, 0.1 * y, there),
    losses.view_matching(x, y, there),
  )
  near = losses.view_matching(x, x + 0.01 * y, there)
  assert near.mean() < losses.view_matching(x, y, there).mean()


def test_differences_ignore_what_a_pair_has_in_common():
  chosen, rejected, first, second = normal(4, 6, 5)
  valid = jnp.ones((6, 2), bool)
  common, other = normal(2, 6, 5)
  moved = losses.simcse_differences(
    chosen + common, rejected + common, first + other, second + other, valid
  )
  close(
    moved,
    losses.simcse_differences(chosen, rejected, first, second, valid),
    1e-9,
  )
  # The other direction is the one opponent of a single pair.
  alone = losses.simcse_differences(
    *(x[:1] for x in (chosen, rejected, chosen, rejected)), valid[:1]
  )
  close(alone, math.log1p(math.exp(-2 / 0.05)))
  # Both sides of a difference lose the same.
  d, e = (
    losses.both_differences(chosen, rejected),
    losses.both_differences(first, second),
  )
  sides = losses.view_matching(d, e, jnp.ones(12, bool)).reshape(2, 6)
  close(sides[0], sides[1])
  swapped = losses.simcse_differences(rejected, chosen, second, first, valid)
  close(
    swapped, losses.simcse_differences(chosen, rejected, first, second, valid)
  )


def _sinkhorn(scores, epsilon, iterations):
  codes = np.exp(np.asarray(scores, np.float64) / epsilon)
  codes /= codes.sum()
  count, prototypes = codes.shape
  for _ in range(iterations):
    codes /= codes.sum(0, keepdims=True) * prototypes
    codes /= codes.sum(1, keepdims=True) * count
  return codes * count


def test_codes_use_all_prototypes_alike():
  scores = jnp.tanh(normal(40, 3) + jnp.array([2.0, 0, 0]))
  there = jnp.ones(40, bool)
  codes = losses.sinkhorn_codes(scores, there, epsilon=0.3, iterations=3)
  close(codes, _sinkhorn(scores, 0.3, 3))
  close(codes.sum(1), 1)
  exact = losses.sinkhorn_codes(scores, there, epsilon=0.3, iterations=300)
  close(exact.mean(0), 1 / 3, 1e-8)
  once = losses.sinkhorn_codes(scores, there, epsilon=0.3, iterations=0)
  assert not np.allclose(once.sum(1), 1)
  # The plain softmax sends most elements to the first prototype.
  assert jax.nn.softmax(scores / 0.3).mean(0)[0] > 0.6
  # Extreme scores stay finite.
  hard = losses.sinkhorn_codes(1e3 * scores, there)
  assert np.isfinite(hard).all()


def test_swapped_codes_at_their_formula():
  x, y, prototypes = normal(8, 5), normal(8, 5), normal(3, 5)
  unit = lambda z: z / np.linalg.norm(z, axis=-1, keepdims=True)
  first, second = (
    unit(np.asarray(z)) @ unit(np.asarray(prototypes)).T for z in (x, y)
  )
  expected = np.zeros(8)
  for mine, others in ((first, second), (second, first)):
    logs = mine / 0.1
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    expected -= (_sinkhorn(others, 0.05, 3) * logs).sum(1)
  there = jnp.ones(8, bool)
  close(losses.swapped_codes(x, y, prototypes, there), expected, 1e-9)
  close(
    losses.swapped_codes(x, y, prototypes, there),
    losses.swapped_codes(y, x, prototypes, there),
  )
  # The codes are constants: only the predictions move the features.
  codes = [
    losses.sinkhorn_codes(jnp.asarray(s), there) for s in (first, second)
  ]

  def fixed(x, y):
    cos = lambda z: (
      z
      / jnp.linalg.norm(z, axis=-1, keepdims=True)
      @ jnp.asarray(unit(np.asarray(prototypes))).T
    )
    logs = lambda z: jax.nn.log_softmax(cos(z) / 0.1)
    return -(codes[1] * logs(x)).sum() - (codes[0] * logs(y)).sum()

  close(
    jax.grad(lambda x: losses.swapped_codes(x, y, prototypes, there).sum())(x),
    jax.grad(fixed)(x, y),
    1e-9,
  )


# ------------------------------------------------- models that write and score


def test_critiques_and_rankings_add_up():
  scores, logps = (jnp.array([1.2]), jnp.array([0.5])), jnp.array([-6.0])
  six, four = jnp.array([6.0]), jnp.array([4.0])
  at = lambda ranking: losses.critique_reward(
    *scores, logps, logps / 2, six, four, ranking=ranking
  )
  close(at(0.0), 0.9)  # nine nats over ten tokens
  close(at(1.0), 0.9 + 0.403186, 1e-6)
  zero = jnp.zeros(1)
  bare = losses.critique_reward(*scores, zero, zero, zero, zero)
  close(bare, losses.bradley_terry(*scores))
  # A pair's tokens weigh the same, in whichever critique they are.
  close(losses.critique_reward(*scores, logps, logps / 2, four, six), at(1.0))


def test_tokens_that_a_rewriting_model_would_not_emit():
  tokens = jnp.array([[5, 6, 7, 8, 0], [5, 6, 7, 8, 9], [5, 6, 0, 0, 0]])
  mask = jnp.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], bool)
  emitted = jnp.array([[5, 6, 7, 8, 3], [4, 6, 7, 8, 9], [1, 1, 1, 1, 1]])
  scores = losses.divergence_scores(tokens, emitted, mask)
  # The model leaves the first response alone: every token is positive.
  close(scores[0], [0.25, 0.25, 0.25, 0.25, 0])
  # The rewrite of the second begins with another token, and then agrees.
  close(scores[1], [-0.2, 0.2, 0.2, 0.2, 0.2])
  close(scores[2], [-0.5, -0.5, 0, 0, 0])
  close(scores.sum(1), [1, 0.6, -1])
  empty = losses.divergence_scores(tokens, emitted, jnp.zeros_like(mask))
  close(empty, 0)
  with pytest.raises(AssertionError):
    losses.divergence_scores(tokens, emitted[:2], mask)


def test_token_scores_that_say_where_a_response_is_weak():
  logps = jnp.array([[-1.0, -4.0, -1.0, jnp.nan], [-2.0, -2.0, -jnp.inf, 7]])
  mask = jnp.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
  scores = losses.centred_token_scores(logps, mask)
  close(scores, [[1, -2, 1, 0], [0, 0, 0, 0]])
  close(losses.centred_token_scores(logps + 3, mask), scores)
