"""The laws of likelihoods hold, and a wrong sign breaks them."""

import jax
import pytest

from experiments.papers import likelihoods


def derivatives(**options):
  with jax.enable_x64(True):
    return likelihoods.derivative_claims(**options)


@pytest.mark.parametrize(
  "part", [derivatives, likelihoods.drop_claims, likelihoods.remedy_claims]
)
def test_claims_hold(part):
  rows = part()
  assert rows
  assert not [claim for claim in rows if not claim.holds]


@pytest.mark.parametrize("part", [derivatives, likelihoods.remedy_claims])
def test_a_wrong_sign_breaks_a_claim(part):
  assert not all(claim.holds for claim in part(sign=-1))


def test_probabilities_stay_probabilities():
  for toy in likelihoods.TOYS:
    path = likelihoods.descend(toy)
    total = sum(jax.numpy.exp(path).T)
    assert abs(total - 1).max() < 1e-6
