"""Forms of preferences: log-odds of P(a > b) as losses train them."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jalign import evaluation, losses
from jalign.experiment.heads import form_of
from jalign.models import ScoreHead, pairwise
from jalign.models.preferences import FORMS, averaged

_half = lambda x: 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_the_mean_of_two_orders_is_exact_and_never_infinite():
  first, second = np.array([0.3, 900.0, -2.0]), np.array([-1.0, -900.0, 5.0])
  told = {(0, 1): first, (1, 0): second}
  head = ScoreHead(None, compare=lambda params, a, b: jnp.array(told[a, b]))
  got = np.asarray(averaged(head, {}, 0, 1))
  p = (_half(first[::2]) + _half(-second[::2])) / 2
  np.testing.assert_allclose(got[::2], np.log(p / (1 - p)), rtol=1e-5)
  assert 800 < got[1] < np.inf
  pairs = evaluation.from_margins(got)
  assert np.isfinite(evaluation.negative_log_likelihood(pairs).mean)


def test_a_sum_of_losses_keeps_the_form_of_its_term():
  for name, form in (
    ("pairwise_preference", "difference"),
    ("pairwise_preference_averaged", "averaged"),
    ("bradley_terry", ""),
  ):
    loss = losses.weighted_sum({name: 1.0, "sft": 0.1})
    assert form_of(SimpleNamespace(function=loss)) == form


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_the_probability_of_its_loss(name):
  head, rng = pairwise(6, rank=2), np.random.default_rng(0)
  params = {
    "score": rng.normal(size=6),
    "u": rng.normal(size=(6, 2)),
    "v": rng.normal(size=(6, 2)),
  }
  a, b = rng.normal(size=(2, 5, 6)).astype(np.float32)
  odds = np.asarray(FORMS[name](head, params, a, b))
  np.testing.assert_allclose(odds, -FORMS[name](head, params, b, a), rtol=1e-4)
  p = rng.uniform(size=5)
  if name == "embedded":
    sides = head.embed(params, a), head.embed(params, b)
    loss = losses.general_preference(*sides, p)
  else:
    both = head.compare(params, a, b), head.compare(params, b, a)
    loss = {
      "difference": losses.pairwise_preference,
      "averaged": losses.pairwise_preference_averaged,
    }[name](*both, p)
  want = -p * np.log(_half(odds)) - (1 - p) * np.log(_half(-odds))
  np.testing.assert_allclose(loss, want, rtol=1e-4)
