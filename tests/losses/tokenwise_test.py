"""Losses on sums whose terms depend on the tokens."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from tests.losses.identities_test import beta, close, few, logp, slopes, value


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _rows(seed, pairs=5, columns=9):
  """Masks with one run of tokens per row; some are empty."""
  rng = np.random.default_rng(seed)
  start = rng.integers(0, columns, (2 * pairs, 1))
  stop = start + rng.integers(0, columns, (2 * pairs, 1))
  at = np.arange(columns)
  mask = (at >= start) & (at < stop)
  return np.where(mask, rng.uniform(-5, 0, mask.shape), np.nan), mask


@few
@hypothesis.given(seed=st.integers(0, 10**6))
def test_shared_sums_count_from_each_response(seed):
  logps, mask = _rows(seed)
  tokens = [row[m] for row, m in zip(logps, mask)]
  expected = []
  for i in range(0, len(tokens), 2):
    shorter = min(len(tokens[i]), len(tokens[i + 1]))
    expected += [sum(tokens[i][:shorter]), sum(tokens[i + 1][:shorter])]
  close(losses.shared_logps(logps, mask), expected)
  # tokens before a response, or in its gaps, aren't counted
  wide = np.full((len(mask), 2 * mask.shape[1]), np.nan)
  there = np.zeros(wide.shape, bool)
  wide[:, 1::2], there[:, 1::2] = logps, mask
  close(losses.shared_logps(wide, there), expected)


def test_shared_sums_have_slopes_on_shared_tokens_only():
  mask = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
  logps = jnp.where(mask > 0, -1.0, jnp.nan)
  total = lambda x: losses.shared_logps(x, mask).sum()
  expected = [[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
  close(jax.grad(total)(logps), expected)
  close(losses.shared_logps(logps, mask), [-2, -2, 0, 0])
  half = losses.shared_logps(jnp.asarray(logps, jnp.bfloat16), mask)
  assert half.dtype == jnp.float32


@pytest.mark.parametrize(
  "logps, mask", [((4, 3), (4, 2)), ((3, 3), (3, 3)), ((4,), (4,))]
)
def test_shared_sums_refuse_other_shapes(logps, mask):
  with pytest.raises(AssertionError):
    losses.shared_logps(jnp.zeros(logps), jnp.ones(mask, bool))


@few
@hypothesis.given(seed=st.integers(0, 10**6), alpha=st.floats(0, 1))
def test_ld_dpo_is_dpo_on_discounted_tokens(seed, alpha):
  logps, mask = _rows(seed)
  reference = np.where(mask, np.roll(np.nan_to_num(logps), 1, 0), np.nan)
  split = lambda x: (x[::2], x[1::2])
  arrays, discounted = [], []
  for part in (np.nansum, losses.shared_logps):
    for x in (logps, reference):
      sums = part(x, 1) if part is np.nansum else part(x, mask)
      arrays += split(jnp.asarray(sums))
  count = np.cumsum(mask, 1)
  shorter = np.repeat(count[:, -1].reshape(-1, 2).min(1), 2)[:, None]
  factor = np.where(count <= shorter, 1.0, alpha)
  for x in (logps, reference):
    discounted += split(jnp.asarray(np.nansum(factor * x, 1)))
  close(
    losses.ld_dpo(*arrays, alpha=alpha, beta=0.3),
    losses.dpo(*discounted, beta=0.3),
  )


def test_ld_dpo_slopes_by_part():
  at = (-10.0, -12.0, -11.0, -11.5, -4.0, -12.0, -5.0, -11.5)
  loss = functools.partial(losses.ld_dpo, alpha=0.25)
  g = jax.grad(loss, tuple(range(8)))(*at)
  whole = slopes(
    losses.dpo, 0.25 * -10 + 0.75 * -4, -12, 0.25 * -11 - 3.75, -11.5
  )
  close(g[:2], (0.25 * whole[0], 0.25 * whole[1]))
  close(g[4:6], (0.75 * whole[0], 0.75 * whole[1]))
  close(g[2:4] + g[6:], (0, 0, 0, 0))


@few
@hypothesis.given(c=logp, r=logp, beta=beta, drawn=st.floats(-4, 0))
def test_wpo_weight(c, r, beta, drawn):
  n, m = 5.0, 8.0
  arrays = [jnp.array([x]) for x in (c, r, n * drawn, m * drawn, n, m)]
  weight = float(losses.wpo_weights(*arrays)[0])
  close(weight, math.exp(c / n - drawn) * math.exp(r / m - drawn), 1e-8)
  pair = (c, r, -20.0, -20.5)
  extras = (n * drawn, m * drawn, n, m)
  plain = functools.partial(losses.dpo, beta=beta)
  loss = functools.partial(losses.wpo, beta=beta)
  close(value(loss, *pair, *extras), weight * value(plain, *pair), 1e-8)
  # the weight is a constant, so the slope is DPO's times the weight
  up, down = slopes(plain, *pair)
  close(slopes(loss, *pair, *extras), (weight * up, weight * down), 1e-8)


def test_wpo_weight_from_distributions():
  """1 for tokens of average likeliness; above 1 for likelier ones."""
  logits = np.random.default_rng(0).normal(size=(6, 11))
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  collision = np.log((p**2).sum(-1)).sum()
  best = np.log(p.max(-1)).sum()
  row = lambda *x: [jnp.array([float(v)]) for v in x]
  at = lambda logps: losses.wpo_weights(
    *row(logps, logps, collision, collision, 6, 6)
  )
  close(at(collision), 1)
  assert at(best) > 1  # not clamped
  # the bound of the docstring's remark: (sqrt(V) + 1) / 2 a response
  edge = 1 / math.sqrt(11)
  other = (1 - edge) / 10
  highest = edge / (edge**2 + 10 * other**2)
  close(highest, (math.sqrt(11) + 1) / 2)
  assert at(best) <= highest**2
  total = lambda *x: losses.wpo_weights(*x).sum()
  arrays = row(-9, -8, collision, collision, 6, 6)
  close(jax.grad(total, tuple(range(6)))(*arrays), np.zeros((6, 1)))
  huge = losses.wpo_weights(*row(1e4, 1e4, -1e4, -1e4, 0, 0))
  assert np.isfinite(huge).all()
