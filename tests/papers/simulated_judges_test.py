"""Claims about judges hold in small cases, and wrong ones are told."""

import numpy as np
import pytest
from scipy import stats

from experiments.papers import annotator_pools, intransitive, order_bias
from jalign.data import tldr_world as world


def _broken(claims):
  return sum(not claim.holds for claim in claims)


def test_order_biases_follow_their_laws_and_a_wrong_bonus_is_told():
  assert not _broken(order_bias.gaussian_claims())
  assert not _broken(order_bias.world_claims(posts=4))
  assert _broken(order_bias.gaussian_claims(bonus=0.0)) >= 1
  assert _broken(order_bias.world_claims(bonus=-1.6, posts=4)) == 2


def test_pools_noise_and_constitutions():
  assert not _broken(annotator_pools.icai_claims(8))
  assert not _broken(annotator_pools.noise_claims(8))
  assert not _broken(annotator_pools.farm_claims(20))


def test_rank_correlation_is_scipys_with_ties():
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 4, (5, 9)), rng.normal(size=9)
  expected = [stats.spearmanr(x, b).statistic for x in a]
  np.testing.assert_allclose(annotator_pools.spearman(a, b), expected)


def test_noise_moves_win_rates_towards_a_half():
  assert annotator_pools.seen(np.array(0.8), 0.25) == pytest.approx(0.65)
  assert annotator_pools.seen(np.array(0.2), 0.5) == 0.5


def _cycle():
  """Three types, each of which beats the next with probability 0.9."""
  third = np.full(3, 1 / 3)
  first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
  return intransitive.Pairs(3, first, second, third, np.array([0.9, 0.9, 0.1]))


@pytest.mark.parametrize("name", intransitive.MODELS)
def test_scores_cannot_fit_a_cycle_and_planes_can(name):
  pairs = _cycle()
  q = intransitive.fitted(
    pairs,
    intransitive.MODELS[name],
    pairs.share[None],
    pairs.p[None],
    np.zeros(1),
    steps=400,
  )[0]
  found, floor = intransitive.reached(pairs, q), world.bayes(pairs.p)
  if name == "Bradley-Terry":
    assert found.nll == pytest.approx(np.log(2), abs=1e-4)
    win = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
    best = world.bradley_terry_fit(win)[1]
    assert found.nll == pytest.approx(best.nll, abs=1e-4)
  else:
    assert found.nll == pytest.approx(floor.nll, abs=1e-4)
    assert found.accuracy == pytest.approx(floor.accuracy)


def test_pairs_of_types_keep_the_records_probabilities():
  rows = intransitive.records(60)
  pairs = intransitive.pairs_of(rows)
  assert pairs.share.sum() == pytest.approx(1)
  assert (pairs.first <= pairs.second).all()
  exact = world.bayes([row.preference for row in rows])
  found = intransitive.reached(pairs, pairs.p)
  np.testing.assert_allclose(found, exact, rtol=1e-9)
