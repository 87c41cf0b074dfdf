"""Raters of the TL;DR world, and heads that know them, for `raters`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jalign.data import tldr_world as world
from jalign.data.tldr_world import dataset, opinions
from jalign.models.ideal_points import fit_rater
from jalign.models.rater_heads import RaterHead, vpl

PEOPLE, NEW = 400, 100  # raters to train on, and raters never seen
PER = opinions.PER_RATER
CONTEXT = 8
STEPS, BATCH, RATE = 3000, 256, 3e-3


class People(NamedTuple):
  """Raters and their pairs.

  Attributes:
    pairs: [U, PER, 2, F] standardised attributes; the chosen summary's first.
    exact: [U, PER] the group's P(chosen is preferred).
    group: [U] number of each rater's group.
    shared: [U, PER] the population's P(chosen is preferred).
  """

  pairs: jax.Array
  exact: np.ndarray
  group: np.ndarray
  shared: np.ndarray


def people() -> tuple[People, People]:
  """The raters to train on, and the new ones."""
  rows = dataset.records("raters", (PEOPLE + NEW) * PER)
  posts = [row.prompt for row in rows]
  sides = [[r.chosen for r in rows], [r.rejected for r in rows]]
  of = [world.attributes(posts, side) for side in sides]
  x = np.stack([np.stack(a, -1) for a in of], 1).astype(np.float64)
  x = x[..., x.std((0, 1)) > 0]  # every archetype is grammatical
  x = (x - x.mean((0, 1))) / x.std((0, 1))
  names = list(world.GROUPS)
  group = np.array(
    [names.index(world.group_of_rater(row.rater)) for row in rows[::PER]]
  )
  by_group = np.stack([g(*of) for g in world.GROUPS.values()])
  exact = by_group[np.repeat(group, PER), np.arange(len(rows))]
  shared = world.population_rater(*of)
  cut = lambda v: np.reshape(v, (PEOPLE + NEW, PER, *v.shape[1:]))
  every = People(
    jnp.asarray(cut(x), jnp.float32), cut(exact), group, cut(shared)
  )
  split = lambda at: People(*(v[at] for v in every))
  return split(slice(PEOPLE)), split(slice(PEOPLE, None))


def reached(gaps: np.ndarray, exact: np.ndarray) -> float:
  """Expected accuracy in per cent of gaps in scores; ties count one half."""
  right = np.where(gaps > 0, exact, np.where(gaps < 0, 1 - exact, 0.5))
  return 100 * float(right.mean())


def limit(p: np.ndarray, exact: np.ndarray) -> float:
  """What the best predictor that knows only P reaches, in per cent."""
  return reached(p - 0.5, exact)


# ------------------------------------------------------------------- training


class Drawn(NamedTuple):
  """A batch: pairs with context.

  Attributes:
    rater: [B] the raters.
    pair: [B, 2, F] the pair.
    context: [B, C, 2, F] other pairs of its rater.
    valid: [B, C] which of those are known.
    seeds: [B] seeds of the vectors' noise.
  """

  rater: jax.Array
  pair: jax.Array
  context: jax.Array
  valid: jax.Array
  seeds: jax.Array


def draw(pairs: jax.Array, key: jax.Array) -> Drawn:
  """Draws raters, a pair of each, and 0 to CONTEXT other pairs."""
  who, order, count, noise = jax.random.split(key, 4)
  rater = jax.random.randint(who, (BATCH,), 0, len(pairs))
  at = jax.vmap(lambda k: jax.random.permutation(k, pairs.shape[1]))(
    jax.random.split(order, BATCH)
  )[:, : CONTEXT + 1]
  rows = pairs[rater[:, None], at]
  known = jax.random.randint(count, (BATCH, 1), 0, CONTEXT + 1)
  return Drawn(
    rater,
    rows[:, 0],
    rows[:, 1:],
    jnp.arange(CONTEXT) < known,
    jax.random.bits(noise, (BATCH,), jnp.uint32),
  )


def vectors_of(head: RaterHead, params: Any, d: Drawn, seeds) -> Any:
  """(vectors [B, V], their distribution or None)."""
  if head.infer is None:
    return head.weights(params, d.rater), None
  latent = head.infer(params, d.context[:, :, 0], d.context[:, :, 1], d.valid)
  return head.draw(latent, seeds), latent


def fit(
  head: RaterHead, pairs: jax.Array, loss: Callable[..., jax.Array], seed=0
) -> Any:
  """Trains a head on [U, N, 2, F] pairs of U raters."""
  key = jax.random.key(seed)
  params = head.init(key)
  schedule = optax.cosine_decay_schedule(RATE, STEPS)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

  def value(params, d):
    vectors, latent = vectors_of(head, params, d, d.seeds)
    scores = head.score_as(params, d.pair, vectors)
    more = () if latent is None else (latent.mean, latent.log_variance)
    return jnp.mean(loss(scores[:, 0], scores[:, 1], *more))

  def step(carry, at):
    params, state = carry
    d = draw(pairs, jax.random.fold_in(key, at))
    updates, state = optimizer.update(jax.grad(value)(params, d), state)
    return (optax.apply_updates(params, updates), state), None

  @jax.jit
  def train(params):
    start = (params, optimizer.init(params))
    return jax.lax.scan(step, start, jnp.arange(STEPS))[0][0]

  return train(params)


# ------------------------------------------------------------------ evaluation


def gaps_by_context(head, params, pairs, shots: int, seed: int = 1) -> Any:
  """[U, N] gaps of each pair when `shots` other pairs are known; and means.

  Returns:
    (gaps, [U, N, Z] means of the inferred raters).
  """
  u, n = pairs.shape[:2]
  generator = np.random.default_rng(seed)
  order = np.argsort(generator.random((u, n, n)), -1)
  # Each pair's own number comes last, so that it isn't among the first n - 1.
  own = order == np.arange(n)[None, :, None]
  order = np.take_along_axis(order, np.argsort(own, -1, kind="stable"), -1)
  at = order[..., : max(shots, 1)]
  context = pairs[np.arange(u)[:, None, None], at]
  flat = lambda x: x.reshape(u * n, *x.shape[2:])
  valid = jnp.full((u * n, at.shape[-1]), shots > 0)
  latent = head.infer(
    params, flat(context[..., 0, :]), flat(context[..., 1, :]), valid
  )
  scores = head.score_as(params, flat(pairs), head.draw(latent, None))
  gaps = (scores[:, 0] - scores[:, 1]).reshape(u, n)
  return np.asarray(gaps), np.asarray(latent.mean).reshape(u, n, -1)


def gaps_by_weights(head, params, pairs, weights) -> np.ndarray:
  """[U, N] gaps under the raters' weights [U, V]."""
  score = lambda own, w: head.score_as(
    params, own, jnp.broadcast_to(w, (len(own), *w.shape))
  )
  scores = jax.vmap(score)(pairs, weights)
  return np.asarray(scores[..., 0] - scores[..., 1])


def fitted_weights(head, params, pairs, shots: int) -> jax.Array:
  """[U, V] weights of raters from their first pairs; all else is frozen."""
  return jax.vmap(lambda own: fit_rater(head, params, own))(pairs[:, :shots])


def active_units(means: np.ndarray) -> int:
  """Coordinates of [..., Z] means that vary by more than 0.01 over raters."""
  return int(np.sum(means.reshape(-1, means.shape[-1]).var(0) > 1e-2))


def purity(weights: np.ndarray, group: np.ndarray) -> float:
  """Share of raters whose largest prototype is their group's most common."""
  best = weights.argmax(-1)
  own = [np.bincount(group[best == k]).max() for k in np.unique(best)]
  return 100 * sum(own) / len(group)


def without_raters(size: int) -> RaterHead:
  """VPL's network of responses alone: a shared reward model."""
  head = vpl(size, latent=1)
  nobody = lambda p, a, b, valid: head.infer(p, a, b, valid & False)
  return head._replace(infer=nobody, draw=lambda latent, seeds: latent.mean)
