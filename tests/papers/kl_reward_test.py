"""Reward against KL: the exact parts equal sums that are written out here."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.papers import (
  frontiers,
  kl_reward,
  kl_reward_trained,
  proxies,
  tldr_runs,
)
from experiments.papers.sampling_laws import best_of_n
from jalign.experiment.config.parse import parse

P = np.array([0.1, 0.4, 0.2, 0.3])
R = np.array([-1.0, 0.5, 0.7, 2.0])


def _cost(q, p):
  """sum q log(q / p) in nats, term by term."""
  return sum(a * np.log(a / b) for a, b in zip(q, p) if a > 0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_best_of_n_by_enumeration(n):
  q = np.zeros(4)
  for draws in itertools.product(range(4), repeat=n):
    chance = 1.0
    for i in draws:
      chance *= P[i]
    q[max(draws)] += chance
  np.testing.assert_allclose(best_of_n(P, n), q, atol=1e-15)
  tally = kl_reward.counted(P, R, n)
  np.testing.assert_allclose(tally, (_cost(q, P), q @ R), atol=1e-14)


def test_tilting_starts_with_the_slope_of_the_standard_deviation():
  spread = np.sqrt(P @ R**2 - (P @ R) ** 2)
  slopes = []
  for target in (1e-4, 1e-6):
    q = frontiers.tilted_to(P, R, target)
    assert _cost(q, P) == pytest.approx(target, rel=1e-9)
    slopes.append((q - P) @ R / np.sqrt(target))
  # The error is of first order in sqrt(KL): a tenth at a hundredth of the KL.
  left = np.array(slopes) / (np.sqrt(2) * spread) - 1
  assert abs(left[0]) < 0.01
  assert left[1] / left[0] == pytest.approx(0.1, rel=0.1)


def test_tilting_is_the_best_of_its_kl():
  q = frontiers.tilted_to(P, R, 0.3)
  rng = np.random.default_rng(0)
  others = rng.dirichlet(np.ones(4), 20_000)
  costs = (others * np.log(others / P)).sum(1)
  assert np.sum(costs <= 0.3) > 1000
  assert (others[costs <= 0.3] @ R).max() < q @ R


@pytest.mark.parametrize(
  "part",
  [
    kl_reward.best_of_n_claims,
    kl_reward.tilted_claims,
    kl_reward.optimality_claims,
  ],
  ids=lambda part: part.__name__,
)
def test_claims_hold(part):
  assert not [claim for claim in part() if not claim.holds]


def test_the_wrong_sign_of_the_skewness_breaks_a_claim():
  rows = kl_reward.tilted_claims(sign=-1)
  assert [claim.holds for claim in rows] == [False, True, True, True]


def test_cells_have_the_law_s_moments():
  p, x = frontiers.cells(stats.norm(1, 2), 801, 1e-12)
  assert p.sum() == pytest.approx(1, abs=1e-14)
  assert (np.diff(x) > 0).all()
  mean, spread, skewness = frontiers.moments(p, x)
  np.testing.assert_allclose((mean, spread), (1, 2), rtol=1e-3)
  assert abs(skewness) < 1e-10


def test_fits_find_what_they_are_given():
  d = np.linspace(0.1, 2, 20)
  for form, f in (("d", d), ("log d", np.log(d))):
    alpha, beta, fitted, fit = frontiers.gao(d, d * (2 - 0.7 * f), form)
    np.testing.assert_allclose((alpha, beta, fit), (2, 0.7, 1), rtol=1e-10)
    np.testing.assert_allclose(fitted, d * (2 - 0.7 * f), rtol=1e-10)
  assert frontiers.line(d, 3 * d) == pytest.approx((3, 1))
  _, fit = frontiers.line(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
  assert fit == pytest.approx(0)  # as good as the mean


def test_gold_rises_by_its_variance_where_the_error_is_independent():
  heavy = [(1, stats.norm(), stats.t(3))]
  p, gold, proxy = proxies.proxy_set(heavy, 1e-3, 21)
  assert (np.diff(proxy) >= 0).all()
  q, nearby = (frontiers.tilted(p, proxy, x) for x in (0.3, 0.3 + 1e-6))
  variance = q @ gold**2 - (q @ gold) ** 2
  assert (nearby - q) @ gold / 1e-6 == pytest.approx(variance, rel=1e-4)


def test_exploits_make_gold_fall_along_both_paths():
  parts = [
    (0.99, stats.norm(), stats.norm()),
    (0.01, stats.norm(-2, 1), stats.norm(4, 1.5)),
  ]
  world = proxies.proxy_set(parts, 1e-6, 41)
  for path in (
    proxies.best_of_n_path(world, 20_000, 30),
    proxies.tilted_path(world, 9.0, 30),
  ):
    assert (np.diff(path.d) > 0).all()
    assert (np.diff(path.proxy) > 0).all()
    assert path.gold[0] == pytest.approx(0, abs=1e-12)
    assert 0 < path.gold.argmax() < 29
    assert path.gold[-1] < path.gold.max() / 2


def test_ties_among_draws_are_one_level():
  rewards = np.array([[0.0, 0.3, 0.1 + 0.2, 1.0], [1.0, 1.0, 1.0, 1.0]])
  draws = kl_reward_trained.draws_of(rewards)
  (p, r), (tied, _) = draws.laws
  np.testing.assert_allclose(p, (0.25, 0.5, 0.25))
  np.testing.assert_allclose(r, (0, 0.3, 1))
  assert tied.tolist() == [1.0]
  curve = draws.curve(lambda p, r: [best_of_n(p, 2)])
  q = np.array([1, 8, 7]) / 16
  assert curve.d[0] ** 2 == pytest.approx(_cost(q, p) / 2)
  assert curve.gain[0] == pytest.approx((q - p) @ r / 2)
  assert draws.mean == pytest.approx((0.4 + 1) / 2)


def test_the_trained_script_follows_the_demo_s_config():
  settings = parse(tldr_runs.sft_config(7).to_dict())
  assert [stage.name for stage in settings.stages] == ["warmup", "sft"]
  assert settings.stage("sft").steps == 7
  assert not settings.annotator.function
  for algorithm, loss in kl_reward_trained.RUNS.values():
    stage = tldr_runs.online_stage(algorithm, 5, **loss)
    assert (stage.algorithm, stage.steps) == (algorithm, 5)
    assert stage.loss == loss
