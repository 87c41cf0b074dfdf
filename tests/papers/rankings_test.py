"""The laws of rankings hold, and a wrong sign breaks them."""

import numpy as np
import pytest

from experiments.papers import idealised, rankings

PARTS = (
  rankings.flip_claims,
  rankings.ipo_claims,
  rankings.proposition_claims,
  rankings.optimum_claims,
)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_claims_hold(part):
  rows = part()
  assert rows
  assert not [claim for claim in rows if not claim.holds]


@pytest.mark.parametrize(
  "part, wrong",
  [
    (rankings.flip_claims, 2),
    (rankings.ipo_claims, 2),
    (rankings.optimum_claims, 1),
  ],
  ids=lambda x: getattr(x, "__name__", x),
)
def test_a_wrong_sign_breaks_claims(part, wrong):
  assert sum(not claim.holds for claim in part(sign=-1)) == wrong


def test_the_optimum_is_the_reference_tilted_by_the_rewards():
  p, ref = idealised.game(3)
  solution, beta = idealised.solved(0.5), 0.5
  # One row of preferences gives the rewards, up to a constant.
  rewards = np.log(p[:, 0]) - np.log1p(-p[:, 0])
  z = ref + rewards / beta
  gaps = np.abs((z[:, None] - z)[idealised.LOW, idealised.HIGH])
  mine = np.abs(solution.odds.reshape(idealised.GAMES, -1)[3])
  np.testing.assert_allclose(mine, gaps, rtol=1e-8)
