"""Identities of losses that bend or shift the margin."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import pytest

from jalign import losses
from tests.losses.identities_test import (
  PAIR,
  close,
  few,
  length,
  logp,
  slopes,
  value,
)

# Computed independently from the formulas, on PAIR.
GOLDEN = [
  ("f_dpo_forward_kl", {}, 0.631154),
  ("f_dpo_js", {}, 0.660652),
  ("f_dpo_alpha", {"alpha": 0.5}, 0.627691),
  ("r_dpo", {"alpha": 0.01}, 0.634946),
  ("exo", {}, 2.505517),
  ("nca", {}, 1.350825),
  ("apo_zero", {}, 0.962523),
  ("apo_down", {}, 0.987549),
  ("sppo", {"beta": 0.1}, 36.25),
  ("discopop", {"beta": 0.1}, 0.849338),
  ("odpo", {}, 1.001152),
  ("slic_ratio", {}, 0.85),
]


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize("name, settings, expected", GOLDEN)
def test_golden_numbers(name, settings, expected):
  loss, _ = losses.resolve(name, **settings)
  pair = PAIR | {"chosen_scores": 3.0, "rejected_scores": 1.0}
  arrays = [pair[key] for key in losses.array_parameters(loss)]
  close(value(loss, *arrays), expected, 1e-6)


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp, p=st.floats(0, 1))
def test_what_becomes_dpo(c, r, rc, rr, p):
  pair = (c, r, rc, rr)
  dpo = value(losses.dpo, *pair)
  close(value(losses.dpo_soft, *pair, 1.0), dpo)
  smoothed = value(losses.dpo, *pair, label_smoothing=p / 2)
  close(value(losses.dpo_soft, *pair, 1 - p / 2), smoothed)
  close(value(losses.r_dpo, *pair, 7, 7, alpha=3.0), dpo)
  close(value(losses.r_dpo, *pair, 3, 9, alpha=0.0), dpo)
  longer = value(losses.r_dpo, *pair, 9, 3, alpha=0.1)
  assert longer < dpo < value(losses.r_dpo, *pair, 3, 9, alpha=0.1)
  close(value(losses.dpo_length_normalized, *pair, 8, 8, beta=0.8), dpo)
  close(value(losses.odpo, *pair, 3.0, 1.5, alpha=0.0), dpo)
  close(value(losses.odpo, *pair, 2.5, 1.5), dpo)  # log 1
  close(value(losses.odpo, *pair, 1.5, 1.5), 0)
  close(slopes(losses.odpo, *pair, 1.0, 1.5), (0, 0))


@few
@hypothesis.given(
  c=st.floats(-3, 3), r=st.floats(-3, 3), alpha=st.floats(0.1, 0.9)
)
def test_f_dpo(c, r, alpha):
  at = (c, r, 0.0, 0.0)
  towards = functools.partial(losses.f_dpo_alpha, alpha=1e-7)
  close(value(towards, *at), value(losses.dpo, *at), 1e-6)
  towards = functools.partial(losses.f_dpo_alpha, alpha=1 - 1e-9)
  forward = losses.f_dpo_forward_kl
  close(value(towards, *at), value(forward, *at), 1e-6)
  d = slopes(forward, *at)
  close(-d[0] / d[1], math.exp(r - c), 1e-8)
  for loss in (forward, losses.f_dpo_js, losses.f_dpo_alpha):
    close(value(loss, c, r, c, r), math.log(2))


def test_stationary_points():
  best = math.log(999) / 0.1
  close(value(losses.exo, best, 0, 0, 0), 0)
  close(slopes(losses.exo, best, 0, 0, 0), (0, 0))
  assert abs(slopes(losses.exo, -1000, 0, 0, 0)[0]) < 1e-30
  close(slopes(losses.nca, math.log(2) / 0.1, -3, 0, 0)[0], 0)
  close(slopes(losses.sppo, 5, -5, 0, 0, beta=0.1), (0, 0))
  close(value(losses.sppo, 5, -5, 0, 0, beta=0.1), 0)
  close(value(losses.sppo_soft, 3, -3, 0, 0, 0.8, beta=0.1), 0)
  close(slopes(losses.apo_down, 0, 0, 0, 0)[0], 0)
  for loss in (losses.apo_zero, losses.apo_down):
    close(value(loss, -3, -4, -3, -4), 1)
  slope = lambda z: slopes(losses.discopop, z / 0.05, 0, 0, 0)[0]
  for z, expected in ((-0.11857, 0.785924), (0.07201, 0.878290)):
    assert abs(slope(z)) < 1e-4
    close(value(losses.discopop, z / 0.05, 0, 0, 0), expected, 1e-6)
  assert slope(-0.15) < 0 < slope(0) and slope(0.1) < 0
  close(value(losses.discopop, 0, 0, 0, 0), (1 + math.log(2)) / 2)


@few
@hypothesis.given(c=logp, r=logp, rc=logp, rr=logp)
def test_hard_labels_are_soft_ones_at_one(c, r, rc, rr):
  pair = (c, r, rc, rr)
  close(value(losses.sppo_soft, *pair, 1.0), value(losses.sppo, *pair))
  hinge = value(losses.slic_hf, 0.1 * (c - rc), 0.1 * (r - rr), lam=0.0)
  close(value(losses.slic_ratio, *pair), hinge)


@few
@hypothesis.given(c=logp, r=logp, n=length, m=length)
def test_without_a_reference(c, r, n, m):
  simpo = value(losses.simpo, c, r, n, m)
  close(value(losses.alpha_po, c, r, n, m, alpha=1e-8), simpo, 1e-4)
  p, q = math.exp(c / n), math.exp(r / m)
  hypothesis.assume(max(p, q) < 0.999)
  asft = value(losses.asft, c, r, n, m, lam=1.0) + c / n
  close(asft, -c / n - math.log(1 - q), 1e-8)
  odds = value(losses.orpo, c, r, n, m, lam=1.0) + c / n
  close(odds, asft + math.log(p * (1 - q) + q * (1 - p)), 1e-8)
