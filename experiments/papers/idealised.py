"""Games of six responses, and the optimum of DPO on all of their pairs.

Chen et al. 2024, arXiv:2405.19534, on what perfect training would rank. The
optimum is found by Newton's method on the loss, not by its closed form.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign import losses

GAMES, RESPONSES = 40, 6
LOW, HIGH = np.triu_indices(RESPONSES, 1)


class Solved(NamedTuple):
  """The optimum on all P pairs of all games, better response first.

  Attributes:
    odds: [P] log-odds of the optimum, nats.
    ref_odds: [P] log-odds of the reference, nats.
    agreement: [P] P(first is preferred), above 1/2.
    loss: [P] loss of the labelled pair at the optimum, nats.
    residual: largest entry of a game's gradient at the optimum.
  """

  odds: np.ndarray
  ref_odds: np.ndarray
  agreement: np.ndarray
  loss: np.ndarray
  residual: float


def game(seed: int, rewarded: bool = True) -> tuple[np.ndarray, np.ndarray]:
  """([n, n] P(i beats j), from rewards or at random; [n] log reference)."""
  rng = np.random.default_rng(seed)
  ref = rng.normal(size=RESPONSES) * 3
  rewards = rng.normal(size=RESPONSES)
  logits = rewards[:, None] - rewards[None]
  if not rewarded:
    noise = 2 * np.triu(rng.normal(size=logits.shape), 1)
    logits = noise - noise.T
  return 1 / (1 + np.exp(-logits)), ref - np.logaddexp.reduce(ref)


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _newton(p, ref, beta):
  """Log-probs [n] at the optimum, and the largest entry of the gradient."""

  def loss(z):
    z = jax.nn.log_softmax(z)
    pairs = (z[LOW], z[HIGH], ref[LOW], ref[HIGH], p[LOW, HIGH])
    return jnp.mean(losses.dpo_soft(*pairs, beta=beta)) / beta

  def step(z, _):
    # The loss is convex in z; adding ones fixes the free shift of all of z.
    move = jnp.linalg.solve(jax.hessian(loss)(z) + 1, jax.grad(loss)(z))
    return z - move, None

  z, _ = jax.lax.scan(step, ref, None, length=20)
  return jax.nn.log_softmax(z), jnp.abs(jax.grad(loss)(z)).max()


@functools.cache
def solved(beta: float, rewarded: bool = True) -> Solved:
  """Solves all games for one beta of DPO, in float64."""
  p, ref = map(np.stack, zip(*(game(i, rewarded) for i in range(GAMES))))
  with jax.enable_x64(True):
    z, residuals = map(np.asarray, _newton(p, ref, jnp.asarray(beta)))
    first = p[:, LOW, HIGH] > 0.5
    rows = np.arange(GAMES)[:, None]
    better = rows, np.where(first, LOW, HIGH)
    worse = rows, np.where(first, HIGH, LOW)
    at = [x[y].ravel() for x in (z, ref) for y in (better, worse)]
    loss = np.asarray(losses.dpo(*map(jnp.asarray, at), beta=beta))
  won, lost, ref_won, ref_lost = at
  agreement = p[rows, better[1], worse[1]].ravel()
  return Solved(
    won - lost, ref_won - ref_lost, agreement, loss, float(residuals.max())
  )
