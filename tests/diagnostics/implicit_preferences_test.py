"""Rankings and their exact laws, calibration, indicators of a policy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import diagnostics, logprobs, losses
from jalign.errors import UserError
from jalign.types import Head
from tests.models.tiny import tiny

RNG = np.random.default_rng(0)


def _logps(count=2000, spread=3.0):
  """[4, N] log-probs: chosen, rejected, and the reference's of both."""
  return jnp.asarray(RNG.normal(size=(4, count)) * spread, jnp.float32)


@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_the_ranking_flips_exactly_at_dpos_threshold(beta):
  chosen, rejected, ref_chosen, ref_rejected = _logps()
  loss = losses.dpo(chosen, rejected, ref_chosen, ref_rejected, beta=beta)
  limit = diagnostics.dpo_threshold(ref_chosen, ref_rejected, beta)
  apart = np.abs(chosen - rejected) > 1e-3
  right = np.asarray(chosen > rejected)
  np.testing.assert_array_equal(right[apart], np.asarray(loss <= limit)[apart])
  assert 0.2 < right.mean() < 0.8
  # A pair that the reference ranks rightly flips at ln 2 or more.
  easy = np.asarray(ref_chosen >= ref_rejected)
  assert (np.asarray(limit)[easy] >= np.log(2) - 1e-6).all()


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_below_ipos_threshold_a_pair_is_ranked_rightly(tau):
  chosen, rejected, ref_chosen, ref_rejected = _logps()
  loss = losses.ipo(chosen, rejected, ref_chosen, ref_rejected, tau=tau)
  limit = diagnostics.ipo_threshold(ref_chosen, ref_rejected, tau)
  below = np.asarray(loss < limit - 1e-3)
  assert below.sum() > 50
  assert (np.asarray(chosen > rejected)[below]).all()
  hopeless = np.asarray(limit) < 0
  assert hopeless.any()
  # In this case the optimum, with a loss of 0, ranks the pair wrongly.
  optimum = 1 / (2 * tau) + (ref_chosen - ref_rejected)
  assert (np.asarray(optimum)[hopeless] < 0).all()


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_idealised_ranking_is_that_of_the_optimum(beta):
  """DPO's optimum on three responses, whose preferences are known."""
  ref = np.log(np.array([0.7, 0.2, 0.1]))
  rewards = np.array([0.0, 0.5, 2.0])
  optimum = ref + rewards / beta
  pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
  chosen, rejected = np.array(pairs).T
  agreement = 1 / (1 + np.exp(rewards[rejected] - rewards[chosen]))
  got = diagnostics.idealised_ranking(
    jnp.asarray(ref[chosen]),
    jnp.asarray(ref[rejected]),
    jnp.asarray(agreement),
    beta,
  )
  np.testing.assert_array_equal(got, optimum[chosen] > optimum[rejected])
  assert 0 < np.mean(got) < 1


def test_calibration_of_what_is_known():
  half = diagnostics.reliability(np.array([1e-9, -1e-9] * 50))
  assert half.ece == pytest.approx(0, abs=1e-6) and half.pairs[0] == 100
  wrong = diagnostics.reliability(np.full(7, -1e9))
  assert wrong.ece == wrong.mce == pytest.approx(1)
  assert wrong.pairs.tolist() == [0] * 9 + [7]
  assert np.isnan(wrong.accuracy[0])


@pytest.mark.parametrize("equal_mass", [False, True])
def test_true_preferences_are_calibrated_and_sharper_ones_are_not(equal_mass):
  true = RNG.normal(size=40_000) * 2
  label = np.where(RNG.uniform(size=true.size) < 1 / (1 + np.exp(-true)), 1, -1)
  measure = functools.partial(diagnostics.reliability, equal_mass=equal_mass)
  right, sharp = measure(label * true), measure(3 * label * true)
  assert right.ece < 0.01 < 0.1 < sharp.ece
  assert right.mce < 0.05 and sharp.mce >= sharp.ece
  # The value by hand, with one bin.
  b = 4
  if not equal_mass:
    sure = 1 / (1 + np.exp(-np.abs(true)))
    inside = (sure >= 0.5 + b * 0.05) & (sure < 0.5 + (b + 1) * 0.05)
    assert right.pairs[b] == inside.sum()
    np.testing.assert_allclose(right.confidence[b], sure[inside].mean())
    np.testing.assert_allclose(
      right.accuracy[b], (label * true > 0)[inside].mean()
    )
  else:
    assert right.pairs.max() - right.pairs.min() <= 1


def _head(z):
  """Hidden states and a head that give the logits z [B, T, V]."""
  return jnp.asarray(z, jnp.float32), Head(
    weight=None, dense=lambda hidden: hidden
  )


def test_indicators_of_known_distributions():
  flat = diagnostics.top_k(*_head(np.zeros((1, 2, 32))), k=8)
  np.testing.assert_allclose(flat.entropy_bits, 8 / 32 * 5, rtol=1e-5)
  np.testing.assert_allclose(flat.renormalised_bits, 3, rtol=1e-5)
  np.testing.assert_allclose(flat.mass, 0.25, rtol=1e-5)
  whole = diagnostics.top_k(*_head(np.zeros((1, 2, 32))), k=32)
  np.testing.assert_allclose(whole.entropy_bits, 5, rtol=1e-5)
  np.testing.assert_allclose(whole.renormalised_bits, 5, rtol=1e-5)
  z = np.full((1, 1, 32), -np.inf)
  z[..., 3] = 0
  sure = diagnostics.top_k(*_head(z), k=8)
  assert (sure.entropy_bits[0, 0], sure.mass[0, 0]) == (0, 1)


def test_indicators_of_a_model_and_their_mask():
  _, model, params = tiny()
  tokens = jax.random.randint(jax.random.key(1), (3, 9), 0, 64)
  hidden = model.forward(params, tokens)
  mask = jnp.arange(9)[None] < jnp.array([9, 4, 0])[:, None]
  got = diagnostics.top_k(hidden, model.head(params), k=5, mask=mask)
  z = np.asarray(logprobs.logits(model.head(params), hidden), np.float64)
  p = np.exp(z - z.max(-1, keepdims=True))
  p = np.sort(p / p.sum(-1, keepdims=True))[..., -5:]
  bits = -(p * np.log2(p)).sum(-1)
  q = p / p.sum(-1, keepdims=True)
  for mine, want in (
    (got.entropy_bits, bits),
    (got.mass, p.sum(-1)),
    (got.renormalised_bits, -(q * np.log2(q)).sum(-1)),
  ):
    np.testing.assert_allclose(mine, np.where(mask, want, 0), atol=1e-4)


def test_where_a_series_turns():
  falling = [5, 4, 3, 2, 2.5, 2.6, 2.7, 3]
  assert diagnostics.reversal(falling, falls=True) == 3
  assert diagnostics.reversal(falling[:6], falls=True) is None  # too early
  assert diagnostics.reversal([-x for x in falling], falls=False) == 3
  assert diagnostics.reversal([5, 4, 3, 2], falls=True) is None
  # A bump after which the series goes on as before is no turn.
  assert diagnostics.reversal([5, 4, 4.5, 3, 3.5, 2], falls=True) is None


def test_rewards_are_compared_pair_by_pair():
  implicit = [1.0, -1.0, 2.0, 0.0, 3.0, -2.0]
  explicit = [0.1, 0.2, 0.3, 0.4, -0.5, -0.6]
  groups = ["a", "a", "b", "b", "c", "c"]
  got = diagnostics.compare_rewards(implicit, explicit, groups)
  assert got.implicit.mean == (1 + 0 + 1 + 0.5 + 1 + 0) / 6
  assert got.explicit.mean == 4 / 6
  # The prompts' means are 1/2, 1/4 and -1/2.
  np.testing.assert_allclose(got.difference.mean, 0.25 / 3)
  np.testing.assert_allclose(
    got.difference.standard_error,
    np.std([0.5, 0.25, -0.5], ddof=1) / np.sqrt(3),
  )
  np.testing.assert_allclose(got.agreement, (1 + 0 + 1 + 0.5 + 0 + 1) / 6)
  same = diagnostics.compare_rewards(implicit, implicit)
  assert same.difference.mean == 0 and same.difference.standard_error == 0
  with pytest.raises(UserError, match=r"\(6,\) implicit and \(5,\)"):
    diagnostics.compare_rewards(implicit, explicit[:5])
