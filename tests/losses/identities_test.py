"""Identities of the papers' formulas, and numbers computed independently."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses

# A pair that sums and averages order differently.
PAIR = {
  "chosen_logps": -10.0,
  "rejected_logps": -12.0,
  "ref_chosen_logps": -11.0,
  "ref_rejected_logps": -11.5,
  "chosen_lengths": 5.0,
  "rejected_lengths": 8.0,
}
GOLDEN = [
  ("dpo", {}, {}, 0.620957),
  ("dpo", {"label_smoothing": 0.1}, {}, 0.635957),
  ("robust_dpo", {"label_smoothing": 0.1}, {}, 0.602207),
  ("ipo", {}, {}, 12.25),
  ("ipo_avg", {}, {}, 22.443906),
  ("slic_hf", {"delta": 1.0, "lam": 0.0}, {}, 0.0),
  ("slic_hf", {"delta": 3.0, "lam": 0.1}, {}, 2.0),
  ("dpop", {"beta": 0.1, "lam": 50.0}, {}, 0.620957),
  ("dpop", {"beta": 0.1, "lam": 5.0}, {"chosen_logps": -11.2}, 0.728760),
  ("orpo", {"lam": 0.1}, {}, 2.104206),
  ("simpo", {"beta": 2.0, "gamma": 0.5}, {}, 1.701413),
  ("simpo", {"beta": 2.0, "gamma": 1.0}, {}, 2.126928),
  ("cpo", {"alpha": 1.0}, {}, 2.598139),
]

logp = st.floats(-60, -1)
beta = st.floats(0.01, 2)
rate = st.floats(0, 0.45)
length = st.integers(1, 40)
few = hypothesis.settings(max_examples=25, deadline=None)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def value(loss, *arrays, **hyperparameters):
  """The loss of one pair, whose arrays are given by position."""
  arrays = [jnp.asarray([x], jnp.float64) for x in arrays]
  return float(loss(*arrays, **hyperparameters)[0])


@functools.cache
def _compiled_slopes(loss):
  def total(sides, others, hyperparameters):
    return loss(*sides, *others, **hyperparameters)

  return jax.jit(jax.grad(total))


def slopes(loss, *arrays, **hyperparameters):
  """Derivatives of one pair's loss in the two policy log-probs."""
  if isinstance(loss, functools.partial):
    hyperparameters, loss = loss.keywords | hyperparameters, loss.func
  arrays = [jnp.asarray(x, jnp.float64) for x in arrays]
  gradient = _compiled_slopes(loss)
  return tuple(map(float, gradient(arrays[:2], arrays[2:], hyperparameters)))


def close(actual, expected, tol=1e-9):
  np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


@pytest.mark.parametrize("name, settings, changes, expected", GOLDEN)
def test_golden_numbers(name, settings, changes, expected):
  loss, _ = losses.resolve(name, **settings)
  pair = PAIR | changes
  arrays = [pair[key] for key in losses.array_parameters(loss)]
  close(value(loss, *arrays), expected, 1e-6)


def test_golden_odds_term():
  arrays = [PAIR[key] for key in losses.array_parameters(losses.orpo)]
  odds = value(losses.orpo, *arrays, lam=1.0)
  odds -= value(losses.orpo, *arrays, lam=0.0)
  close(odds, 1.042058, 1e-6)


def test_golden_batch():
  arrays = [
    jnp.array([-10.0, -9, -26]),
    jnp.array([-12, -8.5, -25]),
    jnp.array([-11, -9.5, -19]),
    jnp.array([-11.5, -9, -23]),
  ]
  close(losses.dpo(*arrays).mean(), 0.762727, 1e-6)


def test_dpo_at_the_reference():
  at = (-3.0, -4.0, -3.0, -4.0)
  close(value(losses.dpo, *at, beta=0.3), math.log(2))
  close(slopes(losses.dpo, *at, beta=0.3), (-0.15, 0.15))


@pytest.mark.parametrize("name", ["dpo", "robust_dpo", "ipo"])
@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, shift=st.floats(-30, 30))
def test_what_the_prompt_adds_to_both_cancels(name, c, r, rc, rr, shift):
  loss = losses.CATALOGUE[name].function
  close(
    value(loss, c + shift, r + shift, rc, rr), value(loss, c, r, rc, rr), 1e-8
  )


def test_dpop_sees_a_shift_of_both():
  at = (-3.0, -4.0, -3.0, -4.0)
  lower = (-4.0, -5.0, -3.0, -4.0)
  assert value(losses.dpop, *lower) > value(losses.dpop, *at) + 1


@few
@hypothesis.given(p=st.floats(0.55, 0.95), beta=beta)
def test_dpo_learns_the_log_odds_of_the_labels(p, beta):
  margin = math.log(p / (1 - p)) / beta

  def slope(h):
    right = slopes(losses.dpo, h, 0.0, 0.0, 0.0, beta=beta)[0]
    flipped = slopes(losses.dpo, 0.0, h, 0.0, 0.0, beta=beta)[1]
    return p * right + (1 - p) * flipped

  close(slope(margin), 0, 1e-9)
  assert slope(margin - 0.1) < 0 < slope(margin + 0.1)


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, beta=beta, e=rate)
def test_smoothed_and_robust_are_dpo_and_a_line(c, r, rc, rr, beta, e):
  dpo = value(losses.dpo, c, r, rc, rr, beta=beta)
  line = beta * (c - rc - r + rr)
  settings = {"beta": beta, "label_smoothing": e}
  close(value(losses.dpo, c, r, rc, rr, **settings), dpo + e * line)
  close(
    value(losses.robust_dpo, c, r, rc, rr, **settings),
    dpo - e / (1 - 2 * e) * line,
  )


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, beta=beta, e=rate)
def test_robust_dpo_is_unbiased(c, r, rc, rr, beta, e):
  settings = {"beta": beta, "label_smoothing": e}
  straight = value(losses.robust_dpo, c, r, rc, rr, **settings)
  flipped = value(losses.robust_dpo, r, c, rr, rc, **settings)
  close(
    (1 - e) * straight + e * flipped, value(losses.dpo, c, r, rc, rr, beta=beta)
  )


def test_robust_dpo_never_stops_pushing():
  far = slopes(losses.robust_dpo, 1e4, 0, 0, 0, beta=0.5, label_smoothing=0.1)
  close(far, (-0.0625, 0.0625))  # beta e / (1 - 2 e)
  assert value(losses.robust_dpo, 1e4, 0, 0, 0) < 0


@few
@hypothesis.given(beta=beta, e=st.floats(0.02, 0.4), h=st.floats(-20, 20))
def test_smoothed_dpo_stops_and_turns(beta, e, h):
  best = math.log((1 - e) / e) / beta
  settings = {"beta": beta, "label_smoothing": e}
  close(slopes(losses.dpo, best, 0, 0, 0, **settings)[0], 0)
  assert slopes(losses.dpo, best + 1, 0, 0, 0, **settings)[0] > 0
  even = {"beta": beta, "label_smoothing": 0.5}
  close(
    value(losses.dpo, h, 0, 0, 0, **even),
    value(losses.dpo, -h, 0, 0, 0, **even),
  )


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, beta=beta)
def test_a_pair_is_ranked_where_dpo_has_paid_for_the_reference(
  c, r, rc, rr, beta
):
  hypothesis.assume(abs(c - r) > 1e-6)
  threshold = math.log1p(math.exp(-beta * (rr - rc)))
  assert (value(losses.dpo, c, r, rc, rr, beta=beta) <= threshold) == (c > r)


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, tau=st.floats(0.05, 1))
def test_ipo_has_a_target(c, r, rc, rr, tau):
  target, h = 1 / (2 * tau), c - rc - r + rr
  close(slopes(losses.ipo, target, 0, 0, 0, tau=tau), (0, 0))
  short = slopes(losses.ipo, target - 1, 0, 0, 0, tau=tau)
  past = slopes(losses.ipo, target + 1, 0, 0, 0, tau=tau)
  assert short[0] < 0 < short[1] and past[1] < 0 < past[0]
  close(value(losses.ipo, rc, rr, rc, rr, tau=tau), 1 / (4 * tau**2))
  close(
    tau**2 * value(losses.ipo, c, r, rc, rr, tau=tau),
    (tau * h - 0.5) ** 2,
    1e-8,
  )


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, n=length, m=length)
def test_averaged_ipo_is_ipo_on_averages(c, r, rc, rr, n, m):
  averages = (c / n, r / m, rc / n, rr / m)
  average = value(losses.ipo_avg, c, r, rc, rr, n, m)
  close(average, value(losses.ipo, *averages), 1e-8)
  at_reference = value(losses.ipo_avg, rc, rr, rc, rr, n, m)
  close(at_reference, 25)  # finite, even if every log-ratio is 0


@few
@hypothesis.given(
  c=logp, r=logp, rc=logp, rr=logp, p=st.floats(0, 1), tau=st.floats(0.05, 1)
)
def test_soft_ipo_is_the_mean_of_ipo_over_labels(c, r, rc, rr, p, tau):
  soft = functools.partial(losses.ipo_soft, tau=tau)
  hard = functools.partial(losses.ipo, tau=tau)
  close(value(soft, c, r, rc, rr, 1.0), value(hard, c, r, rc, rr))
  close(value(soft, c, r, rc, rr, 0.0), value(hard, r, c, rr, rc))
  h = c - rc - r + rr
  expected = 2 * (h - (p - 0.5) / tau)
  close(slopes(soft, c, r, rc, rr, p), (expected, -expected), 1e-8)
  best = (p - 0.5) / tau
  close(slopes(soft, best, 0, 0, 0, p), (0, 0), 1e-8)


def test_soft_ipo_takes_the_preference_as_given():
  gradient = jax.grad(losses.ipo_soft, 4)(-2.0, -4.0, -3.5, -4.5, 0.7)
  assert gradient == 0


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, lam=st.floats(0, 50))
def test_dpop_is_dpo_above_the_reference(c, r, rc, rr, lam):
  dpo = functools.partial(losses.dpo, beta=0.3)
  dpop = functools.partial(losses.dpop, beta=0.3)
  close(value(dpop, c, r, rc, rr, lam=0.0), value(dpo, c, r, rc, rr))
  above = (max(c, rc), r, rc, rr)
  close(value(dpop, *above, lam=lam), value(dpo, *above))
  close(slopes(dpop, *above, lam=lam), slopes(dpo, *above))


def test_dpop_below_and_at_the_kink():
  below = slopes(losses.dpop, -3.01, -4, -3, -4, lam=5.0)
  close(-below[0] / below[1], 6)
  at = slopes(losses.dpop, -3.0, -4, -3, -4, beta=0.3, lam=5.0)
  close(at, (-0.15, 0.15))


@few
@hypothesis.given(
  c=logp, r=logp, ref=logp, beta=beta, n=length, alpha=st.floats(0, 2)
)
def test_cpo_is_dpo_with_a_uniform_reference(c, r, ref, beta, n, alpha):
  cpo = functools.partial(losses.cpo, beta=beta)
  dpo = value(losses.dpo, c, r, ref, ref, beta=beta)
  close(value(cpo, c, r, n, alpha=0.0), dpo)
  close(value(cpo, c, r, n, alpha=alpha), dpo - alpha * c / n)


@few
@hypothesis.given(c=logp, r=logp, n=length, m=length, beta=beta)
def test_simpo_without_margin_is_cpo_on_averages(c, r, n, m, beta):
  simpo = functools.partial(losses.simpo, beta=beta, gamma=0.0)
  averages = value(losses.cpo, c / n, r / m, 1, beta=beta, alpha=0.0)
  close(value(simpo, c, r, n, m), averages)
  d = slopes(simpo, c, r, n, m)
  close(-d[0] / d[1], m / n)
  close(value(simpo, 2 * c, r, 2 * n, m), averages)  # each token occurs twice


def test_simpo_where_means_are_equal():
  close(value(losses.simpo, -6, -4, 3, 2, gamma=0.0), math.log(2))
  wants_more = value(losses.simpo, -6, -4, 3, 2, gamma=0.5)
  close(wants_more, math.log1p(math.exp(0.5)))


@few
@hypothesis.given(c=logp, r=logp, n=length, m=length)
def test_orpo_by_odds(c, r, n, m):
  p, q = math.exp(c / n), math.exp(r / m)
  hypothesis.assume(max(p, q) < 0.999)
  odds = value(losses.orpo, c, r, n, m, lam=1.0) + c / n
  close(odds, math.log1p(q / (1 - q) / (p / (1 - p))), 1e-8)
  # ASFT's alignment term, and its difference from ORPO's.
  asft = -c / n - math.log(1 - q)
  close(odds, asft + math.log(p * (1 - q) + q * (1 - p)), 1e-8)
  assert odds <= asft + 1e-9
  close(value(losses.orpo, c, c, n, n, lam=2.0) + c / n, 2 * math.log(2))


def test_orpo_weight_is_outside_the_sigmoid():
  at = (-10.0, -12.0, 5, 8)
  odds = [value(losses.orpo, *at, lam=lam) - 2.0 for lam in (0.1, 0.2, 1.0)]
  close(odds, np.array([0.1, 0.2, 1.0]) * odds[2])


@pytest.mark.parametrize("mean", [-1e-12, -3e-6, -1e-3, -0.6931, -0.6932, -50])
def test_orpo_is_stable_near_certainty(mean):
  odds = value(losses.orpo, mean, -1.0, 1, 1, lam=1.0) + mean
  z = min(mean, -1e-6)
  log_odds = z - math.log(-math.expm1(z))
  other = -1 - math.log(-math.expm1(-1))
  close(odds, math.log1p(math.exp(other - log_odds)), 1e-8)
  assert all(map(math.isfinite, slopes(losses.orpo, mean, -1.0, 1, 1)))
  single = losses.orpo(*jnp.array([-1, mean, 1, 1], jnp.float32), lam=1.0)
  close(single, 1 + math.log1p(math.exp(log_odds - other)), 1e-6)


@few
@hypothesis.given(
  r=logp, ask=st.floats(0.1, 5), lam=st.floats(0, 1), gap=st.floats(0, 20)
)
def test_slic_pays_for_a_missing_margin_only(r, ask, lam, gap):
  slic = functools.partial(losses.slic_hf, delta=ask, lam=lam)
  close(slopes(slic, r + ask + gap + 1e-6, r), (-lam, 0))
  close(slopes(slic, r + ask - gap - 1e-6, r), (-1 - lam, 1))


def test_slic_at_the_kink_and_shifted():
  close(slopes(losses.slic_hf, -3.0, -4.0, delta=1.0, lam=0.1), (-0.1, 0))
  hinge = functools.partial(losses.slic_hf, lam=0.0)
  close(
    value(hinge, -3.0 + 0.7, -2.0, delta=2.0),
    value(hinge, -3.0, -2.0, delta=1.3),
  )


def test_likelihood_reductions():
  logps, lengths = jnp.array([-6.0, -20.0]), jnp.array([3.0, 5.0])
  close(losses.sft(logps).sum() / lengths.sum(), 26 / 8)  # mean over tokens
  close(losses.sft_avg(logps, lengths).mean(), 3.0)  # mean over responses
  equal = jnp.array([4.0, 4.0])
  close(
    losses.sft(logps).sum() / equal.sum(), losses.sft_avg(logps, equal).mean()
  )


def test_a_response_without_tokens_is_finite():
  zero = (0.0, -4.0, 0, 2)
  close(value(losses.sft_avg, 0.0, 0), 0)
  for loss in (losses.simpo, losses.orpo):
    assert math.isfinite(value(loss, *zero))
    assert all(map(math.isfinite, slopes(loss, *zero)))
  close(value(losses.cpo, 0.0, -4.0, 0), math.log1p(math.exp(-0.4)))
  close(value(losses.ipo_avg, 0, -4.0, 0, -4.0, 0, 2), 25)
