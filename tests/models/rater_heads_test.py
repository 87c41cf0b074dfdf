"""Heads that know the rater: oracles, identities and recovered groups."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.models.ideal_points import fit_rater, pal_a, pal_b
from jalign.models.rater_heads import Latent, vpl

D = 6
RNG = np.random.default_rng(0)


def _drawn(head, seed=0):
  """Parameters of a head, none of them 0."""
  params = head.init(jax.random.key(seed))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
  add = lambda x, key: x + 0.3 * jax.random.normal(key, x.shape)
  return jax.tree.unflatten(tree, list(map(add, leaves, keys)))


def _normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def _numpy(params):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def _gelu(x):
  inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


def _layer(p, x):
  return x @ p["weight"] + p["bias"]


# ------------------------------------------------------------------------ VPL


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_an_inferred_rater_equals_numpy(pooling):
  head = vpl(D, latent=3, width=5, pooling=pooling, clamp=0.2)
  params = _drawn(head)
  chosen, rejected = _normal(3, 4, D), _normal(3, 4, D)
  count = np.array([4, 2, 0])
  valid = jnp.asarray(np.arange(4) < count[:, None])
  found = head.infer(params, chosen, rejected, valid)
  p = _numpy(params)
  pairs = np.concatenate([chosen, rejected], -1).astype(np.float64)
  codes = _gelu(_layer(p["pair"], pairs))
  for i, n in enumerate(count):
    logits = (
      codes[i, :n] @ p["query"] if pooling == "attention" else np.zeros(n)
    )
    share = np.exp(logits) / max(np.exp(logits).sum(), 1e-30)
    pooled = share @ codes[i, :n]
    for name in ("mean", "log_variance"):
      want = np.clip(_layer(p[name], pooled), -0.2, 0.2) if n else np.zeros(3)
      np.testing.assert_allclose(getattr(found, name)[i], want, atol=2e-6)
  assert np.abs(found.mean).max() == np.float32(0.2)  # the clamp is reached


def test_pairs_that_only_fill_and_their_order_change_nothing():
  head = vpl(D, latent=3, width=5)
  params = _drawn(head)
  chosen, rejected = _normal(1, 4, D), _normal(1, 4, D)
  valid = jnp.array([[True, True, True, False]])
  one = head.infer(params, chosen, rejected, valid)
  other = head.infer(
    params, chosen.at[0, 3].set(1e6), rejected.at[0, 3].set(-1e6), valid
  )
  order = jnp.array([2, 0, 1, 3])
  turned = head.infer(params, chosen[:, order], rejected[:, order], valid)
  np.testing.assert_array_equal(one.mean, other.mean)
  np.testing.assert_allclose(one.mean, turned.mean, atol=1e-6)
  swapped = head.infer(params, rejected, chosen, valid)
  assert np.abs(one.mean - swapped.mean).max() > 1e-3
  none = jax.grad(
    lambda p: head.infer(p, chosen, rejected, valid & False).mean.sum()
  )(params)
  assert all(np.all(np.asarray(g) == 0) for g in jax.tree.leaves(none))


def test_a_draw_is_mean_and_scaled_noise_of_the_seed():
  head = vpl(D, latent=2000)
  mean, log_variance = _normal(2, 2000), _normal(2, 2000) - 1
  latent = Latent(mean, log_variance)
  seeds = jnp.array([5, 7], jnp.uint32)
  drawn = head.draw(latent, seeds)
  noise = (drawn - mean) / jnp.exp(log_variance / 2)
  assert abs(float(noise.mean())) < 0.05 and abs(float(noise.std()) - 1) < 0.05
  assert abs(np.corrcoef(noise)[0, 1]) < 0.1
  np.testing.assert_array_equal(head.draw(latent, seeds), drawn)
  np.testing.assert_array_equal(head.draw(latent, seeds[::-1])[0] == drawn[0],
                                np.zeros(2000, bool))  # fmt: skip
  np.testing.assert_array_equal(head.draw(latent, None), mean)


@pytest.mark.parametrize(
  "scaled, in_training, in_evaluation",
  [("never", False, False), ("always", True, True), ("training", True, False)],
)
def test_vectors_are_scaled_where_the_setting_says(
  scaled, in_training, in_evaluation
):
  head = vpl(D, latent=4, scaled=scaled)
  latent = head.infer(
    _drawn(head), _normal(3, 2, D), _normal(3, 2, D), jnp.ones((3, 2), bool)
  )
  length = lambda seeds: np.linalg.norm(head.draw(latent, seeds), axis=-1)
  for seeds, is_scaled in (
    (jnp.arange(3, dtype=jnp.uint32), in_training),
    (None, in_evaluation),
  ):
    assert np.allclose(length(seeds), 2.0, rtol=1e-5) == is_scaled


def test_scores_of_a_vector_equal_numpy_and_start_at_zero():
  head = vpl(D, latent=3, width=5)
  x, v = _normal(2, 4, D), _normal(2, 3)
  start = head.init(jax.random.key(0))
  np.testing.assert_array_equal(head.score_as(start, x, v), np.zeros((2, 4)))
  params = _drawn(head)
  p = _numpy(params)
  hidden = _layer(p["features"], np.asarray(x)) + (v @ p["rater"])[:, None]
  np.testing.assert_allclose(
    head.score_as(params, x, v), _gelu(hidden) @ p["score"], atol=1e-5
  )


def test_two_opposed_groups_are_chance_for_one_score_and_not_for_vpl():
  """Bradley-Terry's optimum is log 2 and 50 %; one pair reveals the group."""
  a, b = jnp.eye(2)
  first = jnp.stack([a, b])[:, None]  # each rater's chosen response
  chosen, rejected = first, first[::-1]
  shared = lambda w: jnp.mean(
    losses.bradley_terry(chosen[:, 0] @ w, rejected[:, 0] @ w)
  )
  for w in (jnp.zeros(2), jnp.array([0.7, -0.2])):
    assert float(shared(w)) >= np.log(2) - 1e-6
  np.testing.assert_allclose(jax.grad(shared)(jnp.zeros(2)), 0, atol=1e-7)

  head = vpl(2, latent=2, width=8)
  params = head.init(jax.random.key(0))
  pairs = jnp.stack([chosen[:, 0], rejected[:, 0]], 1)

  def gaps(params, seeds, valid):
    latent = head.infer(params, chosen, rejected, valid)
    vectors = head.draw(latent, seeds)
    scores = head.score_as(params, pairs, vectors)
    return scores[:, 0] - scores[:, 1], latent

  def loss(params, seeds):
    gap, latent = gaps(params, seeds, jnp.ones((2, 1), bool))
    nats = 0.5 * (
      jnp.exp(latent.log_variance) + latent.mean**2 - 1 - latent.log_variance
    )
    return jnp.mean(jax.nn.softplus(-gap)) + 1e-3 * jnp.mean(nats.sum(-1))

  optimizer = optax.adam(0.03)

  def step(carry, at):
    params, state = carry
    seeds = jnp.array([0, 1], jnp.uint32) + 2 * at
    updates, state = optimizer.update(jax.grad(loss)(params, seeds), state)
    return (optax.apply_updates(params, updates), state), None

  train = jax.jit(
    lambda p: jax.lax.scan(
      step, (p, optimizer.init(p)), jnp.arange(300, dtype=jnp.uint32)
    )[0][0]
  )
  params = train(params)
  known, _ = gaps(params, None, jnp.ones((2, 1), bool))
  assert (np.asarray(known) > 2).all()
  # Without a pair both raters look alike, and the labels are opposite.
  unknown, _ = gaps(params, None, jnp.zeros((2, 1), bool))
  np.testing.assert_allclose(unknown[0], -unknown[1], atol=1e-5)


# ------------------------------------------------------------------------ PAL


@pytest.mark.parametrize("squared", [True, False])
def test_distances_to_an_ideal_point_equal_numpy(squared):
  head = pal_a(D, raters=3, prototypes=2, width=4, squared=squared)
  params = _drawn(head)
  p = _numpy(params)
  x = _normal(4, 5, D)
  raters = jnp.array([2, 0, -1, 1])
  soft = np.exp(10 * p["raters"])
  soft /= soft.sum(-1, keepdims=True)
  weights = np.stack([soft[2], soft[0], soft.mean(0), soft[1]])
  found = head.weights(params, raters)
  np.testing.assert_allclose(found, weights, rtol=1e-5)
  first, second = p["map"]["first"], p["map"]["last"]
  points = _layer(second, _gelu(_layer(first, np.asarray(x, np.float64))))
  gap = points - (weights @ p["prototypes"])[:, None]
  square = (gap**2).sum(-1)
  np.testing.assert_allclose(
    head.score_as(params, x, found),
    -square if squared else -np.sqrt(square),
    rtol=1e-4,
  )


def test_one_prototype_is_one_ideal_point_for_all():
  head = pal_a(D, raters=5, prototypes=1)
  params = _drawn(head)
  x = jnp.broadcast_to(_normal(1, 3, D), (6, 3, D))
  scores = head.score_as(
    params, x, head.weights(params, jnp.array([0, 1, 2, 3, 4, -1]))
  )
  np.testing.assert_array_equal(scores, np.broadcast_to(scores[0], (6, 3)))


def test_cosines_of_pal_b_equal_numpy_and_the_scale_is_capped():
  head = pal_b(D, 2, prototypes=3, width=4, scale=1 / 0.07, hidden=0)
  params = head.init(jax.random.key(0))
  np.testing.assert_allclose(np.exp(params["log_scale"]), 1 / 0.07, rtol=1e-5)
  x, prompts = _normal(2, 3, D), _normal(2, D)
  weights = head.weights(params, jnp.array([1, -1]))
  p = _numpy(params)
  w = np.asarray(weights, np.float64)
  points = _layer(p["map"]["last"], np.asarray(x, np.float64))
  ideals = np.einsum("bd,kdw,bk->bw", prompts, p["prototypes"], w)
  cosine = np.einsum("bkw,bw->bk", points, ideals) / (
    np.linalg.norm(points, axis=-1) * np.linalg.norm(ideals, axis=-1)[:, None]
  )
  found = head.score_as(params, x, weights, prompts)
  np.testing.assert_allclose(found, cosine / 0.07, rtol=1e-4)
  params["log_scale"] = jnp.float32(10.0)
  found = head.score_as(params, x, weights, prompts)
  np.testing.assert_allclose(found, 100 * cosine, rtol=1e-4)


def test_gradients_at_the_ideal_point_are_finite():
  head = pal_a(D, prototypes=1, width=2, squared=False)
  params = jax.tree.map(jnp.zeros_like, head.init(jax.random.key(0)))
  x = jnp.zeros((1, 2, D))
  slopes = jax.grad(
    lambda p: head.score_as(p, x, head.weights(p, jnp.zeros(1, int))).sum()
  )(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(slopes))


def test_a_new_raters_weights_go_to_the_right_prototype():
  """Groups around +e and -e: eight pairs place a new rater, no pair doesn't."""
  head = pal_a(2, raters=4, prototypes=2, width=2, hidden=0)
  params = head.init(jax.random.key(0))
  params["map"] = {"last": {"weight": jnp.eye(2), "bias": jnp.zeros(2)}}
  params["prototypes"] = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
  params["raters"] = jnp.array([[0.9, 0.0]] * 2 + [[0.0, 0.9]] * 2)
  x = _normal(8, 2, 2)
  x /= jnp.linalg.norm(x, axis=-1, keepdims=True)
  best = jnp.argsort(-x[..., 0], axis=1)  # a rater of the first group
  pairs = jnp.take_along_axis(x, best[..., None], 1)
  fit = jax.jit(lambda x: fit_rater(head, params, x, prior=0.0))
  np.testing.assert_allclose(fit(pairs), [1, 0], atol=0.02)
  np.testing.assert_allclose(fit(pairs[:, ::-1]), [0, 1], atol=0.02)
  both = jnp.concatenate([pairs, pairs[:, ::-1]])
  np.testing.assert_allclose(fit(both), [0.5, 0.5], atol=0.02)
  kept = fit_rater(head, params, pairs, prior=1e3)
  np.testing.assert_allclose(kept, [0.5, 0.5], atol=0.02)
  some = fit_rater(head, params, pairs)
  assert 0.6 < some[0] < 0.98  # eight pairs outweigh the prior, and no more

  # Where it ends, the objective's gradient is the same for all weights.
  def objective(w):
    scores = head.score_as(params, pairs, jnp.broadcast_to(w, (8, 2)))
    far = jnp.sum(w * jnp.log(2 * w))
    return jnp.sum(jax.nn.softplus(scores[:, 1] - scores[:, 0])) + 2 * far

  slope = jax.grad(objective)(some)
  np.testing.assert_allclose(slope[0], slope[1], rtol=1e-3, atol=1e-3)
  np.testing.assert_allclose(
    fit_rater(head, params, pairs[:0]), [0.5, 0.5], atol=1e-6
  )


def test_settings_out_of_range_are_named():
  for make, settings, where in (
    (vpl, {"latent": 0}, "head.latent"),
    (vpl, {"pooling": "max"}, "head.pooling"),
    (vpl, {"scaled": "sometimes"}, "head.scaled"),
    (vpl, {"clamp": -1.0}, "head.clamp"),
    (pal_a, {"prototypes": 0}, "head.prototypes"),
    (pal_a, {"hidden": -1}, "head.hidden"),
    (pal_b, {"scale": 200.0}, "head.scale"),
  ):
    with pytest.raises(UserError) as e:
      make(D, **settings)
    assert e.value.where == where
  with pytest.raises(UserError, match="infers raters from pairs"):
    fit_rater(vpl(D), {}, jnp.zeros((1, 2, D)))
