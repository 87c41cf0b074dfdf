"""Identities of losses that take more than a pair."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from tests.losses.identities_test import (
  PAIR,
  beta,
  close,
  few,
  length,
  logp,
  slopes,
  value,
)

# Computed independently from the formulas, on PAIR and these numbers.
BESIDE = PAIR | {
  "chosen_scores": 3.0,
  "rejected_scores": 1.0,
  "chosen_margin_scores": [1.0],
  "rejected_margin_scores": [0.6],
  "gold_logps": -9.0,
  "rationale_logps": -30.0,
}
GOLDEN = [
  ("bco", {"shift": 0.02}, 1.312707),
  ("modpo", {}, 0.744397),
  ("mm_dpo", {"w": 0.5, "k": 0.5}, 0.599306),
  ("flex_dpo", {"beta_chosen": 0.1, "beta_rejected": 0.05}, 0.632599),
  ("tpo", {"beta": 0.2, "alpha": 0.9}, 8.613015),
  ("rationale_dpo", {"gamma": 0.1}, 3.620957),
  ("rationale_dpo_logsigmoid", {"gamma": 0.1}, 3.669544),
]


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize("name, settings, expected", GOLDEN)
def test_golden_numbers(name, settings, expected):
  loss, _ = losses.resolve(name, **settings)
  arrays = [BESIDE[key] for key in losses.array_parameters(loss)]
  close(value(loss, *arrays), expected, 1e-6)


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, third=logp, beta=beta)
def test_what_becomes_dpo(c, r, rc, rr, third, beta):
  pair = (c, r, rc, rr)
  dpo = value(losses.dpo, *pair, beta=beta)
  loss = lambda name, *arrays, **settings: value(
    functools.partial(losses.CATALOGUE[name].function, **settings),
    *pair,
    *arrays,
  )
  close(loss("modpo", [], [], beta=beta, weights=(1.0,)), dpo)
  one_hot = {"beta": beta, "weights": (1.0, 0.0, 0.0)}
  close(loss("modpo", [third, 2.0], [1.0, 7.0], **one_hot), dpo)
  close(loss("mm_dpo", 3.0, 1.0, beta=beta, w=0.0), dpo)
  close(loss("mm_dpo", 1.0, 1.0, beta=beta, w=2.0), dpo)
  close(loss("mm_dpo", 1.0, 900.0, beta=beta, w=2.0), dpo)  # contradicted
  close(loss("flex_dpo", beta_chosen=beta, beta_rejected=beta), dpo)
  close(loss("selm", third, c, beta=beta, alpha=0.0), dpo)
  close(loss("rationale_dpo", third, beta=beta, gamma=0.0), dpo)
  none = {"beta": beta, "gamma": 0.0}
  close(loss("rationale_dpo_logsigmoid", third, **none), dpo + math.log(2))
  shared = (c / 2, r / 3, rc / 4, rr / 5)
  close(loss("ld_dpo", *shared, beta=beta, alpha=1.0), dpo)
  close(
    loss("ld_dpo", *shared, beta=beta, alpha=0.0),
    value(losses.dpo, *shared, beta=beta),
  )
  close(loss("ld_dpo", *pair, beta=beta, alpha=0.3), dpo)  # of one length
  as_drawn = (c, r, 5, 8)
  close(loss("wpo", *as_drawn, beta=beta), dpo)


@few
@hypothesis.given(
  c=logp, r=logp, rc=logp, rr=logp, beta=beta, shift=st.floats(-3, 3)
)
def test_bco_is_above_dpo(c, r, rc, rr, beta, shift):
  pair = (c, r, rc, rr)
  dpo = value(losses.dpo, *pair, beta=beta)
  bco = functools.partial(losses.bco, beta=beta)
  # If sigmoids saturate the two are equal, up to the rounding of two sums.
  assert value(bco, *pair, shift=shift) >= dpo * (1 - 1e-12)
  noise = np.logaddexp(0, beta * (r - rr))  # NCA's code, its biased form
  close(value(bco, *pair), np.logaddexp(0, -beta * (c - rc)) + noise)
  raised = (beta * c, beta * r, beta * rc, beta * rr)
  unit = functools.partial(losses.bco, beta=1.0)
  close(value(unit, *raised, shift=shift), value(bco, *pair, shift=shift))
  # the two are equal if both terms vanish
  far = (c + 1000 / beta, r - 1000 / beta, c, r)
  close(value(bco, *far, shift=shift), value(losses.dpo, *far, beta=beta))


def test_bco_shift_is_a_constant():
  at = (-3.0, -4.0, -3.5, -4.5)
  assert jax.grad(lambda s: losses.bco(*at, shift=s))(0.3) == 0
  up, down = slopes(losses.bco, *at, beta=0.2, shift=0.3)
  close(up, -0.2 / (1 + math.exp(0.2 * 0.5 - 0.3)))
  close(down, 0.2 / (1 + math.exp(0.3 - 0.2 * 0.5)))


def test_the_shift_follows_the_middle_reward():
  batch = [
    jnp.array([-10.0, -9, -26]),
    jnp.array([-12, -8.5, -25]),
    jnp.array([-11, -9.5, -19]),
    jnp.array([-11.5, -9, -23]),
  ]
  update = functools.partial(losses.bco_shift_update, beta=0.1)
  close(update(5.0, *batch, decay=0.0), -0.125)
  close(losses.bco(*batch, shift=-0.125).mean() / 2, 0.731670, 1e-6)
  close(update(5.0, *batch, decay=1.0), 5.0)
  close(update(1.0, *batch, decay=0.9), 0.9 - 0.0125)
  padded = [jnp.append(x, jnp.nan) for x in batch]
  valid = jnp.arange(4) < 3
  close(update(1.0, *padded, decay=0.9, valid=valid), 0.9 - 0.0125)
  none = jnp.zeros(4, bool)
  close(update(1.0, *padded, decay=0.9, valid=none), 1.0)
  for i in range(4):
    gradient = jax.grad(lambda *x: update(1.0, *x, decay=0.5), i)(*batch)
    close(gradient, 0)
  jitted = jax.jit(functools.partial(update, decay=0.9))(1.0, *batch)
  close(jitted, 0.9 - 0.0125)
  with pytest.raises(UserError, match=r"decay must be in \[0, 1\]"):
    update(0.0, *batch, decay=1.1)


@few
@hypothesis.given(
  c=logp, r=logp, rc=logp, rr=logp, w=st.floats(0.1, 0.9), gap=st.floats(-3, 3)
)
def test_modpo(c, r, rc, rr, w, gap):
  loss = functools.partial(losses.modpo, weights=(w, 1 - w))
  pair = (c, r, rc, rr)
  without = value(losses.dpo, *pair, beta=0.1 / w)
  close(value(loss, *pair, [0.7], [0.7]), without)
  h = c - rc - r + rr
  z = (0.1 * h - (1 - w) * gap) / w
  close(value(loss, *pair, [gap], [0.0]), np.logaddexp(0, -z))
  # two margins with half the weight each are like one
  halves = (w, (1 - w) / 2, (1 - w) / 2)
  two = functools.partial(losses.modpo, weights=halves)
  close(value(two, *pair, [gap, 1.0], [0.0, 1.0 - gap]), np.logaddexp(0, -z))


@pytest.mark.parametrize(
  "weights",
  [(0.5,), (0.5, 0.6), (1.2, -0.2), (0.0, 1.0), (0.4, 0.3, 0.3), 1.0, "ab"],
)
def test_weights_off_the_simplex_are_named(weights):
  zero = jnp.zeros((1, 1))
  message = r"^weights must be 2 numbers in \[0, 1\] that sum to 1, the first"
  with pytest.raises(UserError, match=message):
    losses.modpo(*[zero[0]] * 4, zero, zero, weights=weights)


def test_weights_may_be_traced():
  ones, gap = jnp.ones(1), jnp.full((1, 1), 0.4)
  swept = jax.vmap(
    lambda w: losses.modpo(
      ones, 0 * ones, 0 * ones, 0 * ones, gap, 0 * gap, weights=w
    )
  )(jnp.array([[0.5, 0.5], [0.25, 0.75]]))
  close(swept[:, 0], np.logaddexp(0, [-(0.1 - 0.2) / 0.5, -(0.1 - 0.3) / 0.25]))
  with pytest.raises(UserError, match="weights"):
    losses.modpo(ones, ones, ones, ones, gap, gap, weights=jnp.ones(3) / 3)


@few
@hypothesis.given(c=logp, r=logp, gap=st.floats(0.01, 5), k=st.floats(0.1, 2))
def test_mm_dpo_beta_grows_with_the_scores(c, r, gap, k):
  loss = functools.partial(losses.mm_dpo, beta=0.2, w=0.5, k=k)
  strength = 0.2 * (1 + 0.5 * (1 - math.exp(-k * gap)))
  assert 0.2 < strength < 0.3
  pair = (c, r, -20.0, -20.0)
  expected = functools.partial(losses.dpo, beta=strength)
  close(value(loss, *pair, gap, 0.0), value(expected, *pair))
  close(slopes(loss, *pair, gap, 0.0), slopes(expected, *pair))
  most = value(loss, *pair, 1e4, 0.0)
  close(most, value(losses.dpo, *pair, beta=0.3))
  for i in (4, 5):
    close(jax.grad(lambda *x: loss(*x), i)(*pair, gap, 0.0), 0)


@few
@hypothesis.given(c=logp, r=logp, gold=logp, n=length, m=length, beta=beta)
def test_tpo(c, r, gold, n, m, beta):
  tpo = functools.partial(losses.tpo, beta=beta, alpha=0.7)
  cpo = value(losses.cpo, c, r, 1, beta=beta, alpha=0.7)
  close(value(tpo, c, r, c), cpo)
  # if chosen and gold are the same text, its two slopes add up
  both = jax.grad(lambda x: tpo(x, r, x))(c)
  close(both, slopes(losses.cpo, c, r, 1, beta=beta, alpha=0.7)[0])
  close(jax.grad(tpo, 2)(c, r, gold), -0.7)
  flat = value(losses.tpo, c, r, gold, beta=1e-13, alpha=0.7)
  close(flat, math.log(2) - 0.7 * gold)
  normed = value(
    losses.tpo_l, c, r, gold, n, m, beta=beta, alpha=0.7, gamma=0.4
  )
  simpo = value(losses.simpo, c, r, n, m, beta=beta, gamma=0.4)
  close(normed, simpo - 0.7 * gold)


def test_selm_lowers_the_old_response():
  at = (-3.0, -4.0, -3.5, -4.5, -6.0, -5.0)
  loss = functools.partial(losses.selm, beta=0.1, alpha=0.02)
  plain = value(losses.dpo, *at[:4], beta=0.1)
  close(value(loss, *at), plain + 0.02 * 0.1 * (-6.0 + 5.0))
  close(jax.grad(loss, 4)(*at), 0.02 * 0.1)  # minimised: its log-prob falls
  assert jax.grad(loss, 5)(*at) == 0


@few
@hypothesis.given(
  c=logp, r=logp, reason=st.floats(-200, 0), gamma=st.floats(0.01, 1)
)
def test_links_of_a_rationale(c, r, reason, gamma):
  at = (c, r, -20.0, -21.0, reason)
  plain = value(losses.rationale_dpo, *at, gamma=gamma)
  bent = value(losses.rationale_dpo_logsigmoid, *at, gamma=gamma)
  gap = np.logaddexp(0, gamma * reason)
  close(bent - plain, gap)
  assert 0 <= gap <= math.log(2) + 1e-12
  close(
    jax.grad(functools.partial(losses.rationale_dpo, gamma=gamma), 4)(*at),
    -gamma,
  )


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, shift=st.floats(1, 9))
def test_what_the_prompt_adds_cancels_only_where_betas_agree(
  c, r, rc, rr, shift
):
  pair, moved = (c, r, rc, rr), (c + shift, r + shift, rc, rr)
  flex = losses.flex_dpo
  assert value(flex, *moved) < value(flex, *pair)  # beta_chosen is larger
  for loss in (losses.selm, losses.rationale_dpo):
    extras = (-5.0, -6.0)[: len(losses.array_parameters(loss)) - 4]
    close(value(loss, *moved, *extras), value(loss, *pair, *extras), 1e-8)
  bent = [value(losses.bco, *x, beta=1.0) for x in ((0, 0, 0, 0), (2, 2, 0, 0))]
  assert bent[1] > bent[0] + 0.1


@few
@hypothesis.given(
  r=st.floats(-3, 3), up=st.floats(0.1, 2), down=st.floats(0.1, 2)
)
def test_flex_dpo_slopes_have_the_ratio_of_betas(r, up, down):
  at = functools.partial(losses.flex_dpo, beta_chosen=up, beta_rejected=down)
  d = slopes(at, r, 1.0, 0.0, 0.0)
  close(-d[0] / d[1], up / down, 1e-8)


# ------------------------------------------------------- properties of 3D-DPO


def test_a_vanishing_rejected_response_takes_the_gradient():
  """Gradients are in three outcomes' probabilities, taken as independent."""
  beta_ = 0.1
  loss = lambda p, q: losses.dpo(
    jnp.log(p), jnp.log(q), math.log(0.3), math.log(0.3), beta=beta_
  )
  steps = []
  for q in (0.3, 1e-2, 1e-5):
    up, down = jax.grad(loss, (0, 1))(0.4, q)
    close(-down / up, 0.4 / q, 1e-8)
    steps.append((abs(up), down))
  assert steps[0][0] > steps[1][0] > steps[2][0]
  assert steps[0][1] < steps[1][1] < steps[2][1]


# ----------------------------------------------------- scores without a gap


@pytest.mark.parametrize("rejected", [2.0, 2.5, np.nan])
def test_odpo_names_scores_without_a_gap(rejected):
  logps = [np.full(2, -3.0)] * 4
  scores = np.array([3.0, 2.0]), np.array([1.0, rejected])
  message = r"chosen_scores - rejected_scores must be in \(0, inf\).* example 1"
  with pytest.raises(UserError, match=message):
    losses.odpo(*logps, *scores)
  with pytest.raises(UserError, match=message):
    losses.odpo(*logps, *map(list, scores))
  fine = losses.odpo(*logps, scores[0], np.ones(2))
  close(fine, [math.log1p(2), math.log1p(1)])


def test_odpo_does_not_read_jax_arrays():
  logps = [jnp.full(2, -3.0)] * 4
  scores = jnp.array([3.0, 2.0]), jnp.array([1.0, 2.5])
  for loss in (losses.odpo, jax.jit(losses.odpo)):
    close(loss(*logps, *scores), [math.log1p(2), 0])


def test_scores_are_spread_where_they_differ():
  """The value by hand: 2 / K^2 times each pair's sigmoid of the gap, K = 3."""
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  got = losses.score_spread(jnp.array([[0.0, 2.0, 1.0], [5.0] * 3]))
  want = 2 / 9 * (sigmoid(2) + 2 * sigmoid(1)), (3 - 1) / (2 * 3)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  far = losses.score_spread(jnp.array([[0.0, 99.0, -99.0]]))
  np.testing.assert_allclose(far, [2 / 3], rtol=1e-6)


def test_an_order_gap_is_none_where_the_answers_agree():
  """P(y > y') + P(y' > y) is 1 for a model to which order doesn't matter."""
  logit = lambda p: np.log(p) - np.log1p(-p)
  first = jnp.array([logit(0.8), logit(0.6), 40.0, 0.7])
  second = jnp.array([logit(0.4), logit(0.1), 40.0, -0.7])
  got = losses.order_gap(first, second)
  np.testing.assert_allclose(got, [0.2, 0.3, 1.0, 0.0], atol=1e-6)
