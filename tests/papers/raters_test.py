"""The reproduction of VPL and PAL: its draws, its measures, and its page."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.papers import rater_learners, raters
from jalign.models.rater_heads import Latent, RaterHead


def _names_its_pairs() -> RaterHead:
  """A head whose vector says which pairs were known, by their first feature."""

  def infer(params, chosen, rejected, valid):
    seen = jax.nn.one_hot(chosen[..., 0].astype(int), 8) * valid[..., None]
    return Latent(seen.sum(1), jnp.zeros((len(chosen), 8)))

  score = lambda params, x, v: v @ jnp.arange(8.0)[:, None] + x[..., 0]
  return RaterHead(
    lambda key: {}, score, infer, lambda latent, seeds: latent.mean
  )


def _pairs(people=3, count=8):
  own = jnp.broadcast_to(jnp.arange(float(count)), (people, count))
  return jnp.stack([own, own], -1)[..., None]


def test_a_pair_is_never_its_own_context():
  for shots in (0, 1, 4, 7):
    _, seen = rater_learners.gaps_by_context(
      _names_its_pairs(), {}, _pairs(), shots
    )
    assert (seen.sum(-1) == shots).all() and seen.max(initial=0) <= 1
    own = np.diagonal(seen, axis1=1, axis2=2)
    assert (own == 0).all()
  drawn = rater_learners.draw(_pairs(), jax.random.key(0))
  asked = drawn.pair[:, 0, 0]
  assert not (drawn.context[:, :, 0, 0] == asked[:, None]).any()


def test_expected_accuracy_weighs_ties_and_labels():
  exact = np.array([0.95, 0.95, 0.5, 0.05])
  assert raters.reached(np.array([1.0, -1, 1, 0]), exact) == 100 * np.mean(
    [0.95, 0.05, 0.5, 0.5]
  )
  assert raters.limit(exact, exact) == 100 * np.mean([0.95, 0.95, 0.5, 0.95])


def test_purity_is_the_share_of_the_most_common_group():
  weights = np.eye(3)[[0, 0, 1, 1, 1]]
  group = np.array([2, 2, 0, 0, 1])
  assert raters.purity(weights, group) == 80


def _results(**changes) -> raters.Results:
  own = dict(zip(raters.SHOTS, (70.0, 75.0, 80.0, 88.0, 92.5, 93.0)))
  vpl = dict.fromkeys(raters.WEIGHTS, own)
  vpl[raters.WEIGHTS[-1]] = dict.fromkeys(raters.SHOTS, 71.0)
  units = dict(zip(raters.WEIGHTS, (16, 15, 6, 1)))
  rng = np.random.default_rng(0)
  given = raters.Results(
    {"shared": 72.7, "grouped": 93.7}, vpl, units,
    {n: x - 1 for n, x in own.items()}, rng.normal(size=(30, 16)),
    rng.integers(3, size=30), 70.0,
    {k: (65.0 if k == 1 else 90.0, 0.9, 95.0) for k in raters.PROTOTYPES},
    {k: {n: x - k for n, x in own.items()} for k in (2, 3, 4)}
    | {1: dict.fromkeys(raters.SHOTS, 69.0)},
    0.0, (0.694, 50.2, 99.0),
  )  # fmt: skip
  return given._replace(**changes)


def test_claims_hold_for_good_numbers_and_fail_for_bad_ones():
  assert all(claim.holds for claim in raters.claims_of(_results()))
  too_good = {"shared": 72.7, "grouped": 92.0}
  for change in (
    {"limits": too_good},
    {"spread": 1e-3},
    {"opposed": (0.694, 50.2, 60.0)},
    {"shared": 80.0},
  ):
    assert any(not c.holds for c in raters.claims_of(_results(**change)))


def test_the_page_has_all_models_and_the_figure_is_drawn():
  page = raters.table(_results())
  assert page.count("\n| VPL") == 5 and page.count("\n| PAL") == 4
  left, right = raters.draw_figure(_results()).axes
  assert len(left.collections) == 3 and len(right.lines) == 5
