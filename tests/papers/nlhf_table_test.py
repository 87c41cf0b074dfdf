"""The table of games and RLHF: its pure parts, without training."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.papers import nlhf_cells as cells
from experiments.papers import nlhf_claims
from experiments.papers import nlhf_judges as judges
from experiments.papers import nlhf_measures as measures
from experiments.papers import nlhf_results as results
from experiments.papers.nlhf_ideal import curves
from experiments.papers.nlhf_methods import METHODS, order, train_missing
from jalign.data import tldr_world as world
from jalign.data.tldr_world.dataset import post
from jalign.data.tldr_world.summary import Attributes

POSTS = [post(i) for i in range(30_000, 30_024)]
SALIENT = np.array([len(p.salient) for p in POSTS])
CYCLE = ("complete plain", "complete sourced", "all but one sourced")


def sampled(*names):
  """Samples of a policy that gives each archetype equally often."""
  texts = [[world.archetype(name, p) for name in names] for p in POSTS]
  of = judges.of_texts(POSTS, texts)
  zeros = np.zeros(of.shape[:2], np.float32)
  return cells.Sampled(of, zeros, zeros + 8, 3.0, 10)


def test_wins_of_archetypes_run_in_a_circle():
  every = [sampled(name).attributes for name in CYCLE]
  types = measures.types_of(judges.RATERS["cycle"], every)
  a, b, c = map(types.find, every)
  wins = lambda x, y: measures.wins_by_post(types.wins, x, y)
  # Weights 0.3, 0.4, 0.3 and tremble 0.05: majorities of 0.7, 0.6 and 0.7.
  for x, y, majority in ((a, b, 0.7), (b, c, 0.6), (c, a, 0.7)):
    np.testing.assert_allclose(wins(x, y), 0.05 + 0.9 * majority)
  np.testing.assert_allclose(wins(a, c) + wins(c, a), 1)
  both = np.concatenate([a, b], 1)
  np.testing.assert_allclose(wins(both, c), (wins(a, c) + wins(b, c)) / 2)


def test_the_challenger_is_chosen_on_other_posts_than_it_plays_on():
  """A challenger that is best on one half by chance gains nothing there."""
  even = np.arange(8) % 2 == 0
  got = measures.exploited(
    {"a": np.where(even, 0.9, 0.3), "b": np.where(even, 0.3, 0.8)}
  )
  np.testing.assert_allclose(got.by_post, -0.2)
  assert got.challenger == "a / b"
  better = measures.exploited({"c": np.full(8, 0.6), "d": np.full(8, 0.5)})
  np.testing.assert_allclose(better.by_post, 0.1)
  assert better.challenger == "c"


def test_the_best_type_beats_each_archetype():
  fixed = [sampled(name).attributes for name in world.ARCHETYPES]
  every = [measures.rows_of(world.attainable(n)) for n in (2, 3)]
  types = measures.types_of(judges.RATERS["cycle"], [*fixed, *every])
  mine = types.find(sampled("everything sourced").attributes)
  best = measures.best_types(types, SALIENT, mine)
  low, high = measures.own_best(types, SALIENT, np.repeat(mine, 2, 1))
  for rows in fixed:
    wins = measures.wins_by_post(types.wins, types.find(rows), mine)
    assert wins.mean() <= best.mean() + 1e-9
  # The policy has one response to a post: nothing is to be chosen by chance.
  np.testing.assert_allclose(low, high)
  assert best.mean() <= high.mean() + 1e-9


def test_frontiers_are_compared_at_equal_kl():
  rng = np.random.default_rng(0)
  noise = rng.normal(size=400) * 0.1
  line = lambda kl, slope: (kl, slope * np.array(kl)[:, None] + noise)
  gap = measures.gap_at_kl(line([2.0, 0.0, 1.0], 0.5), line([0.5, 3.0], 0.2))
  assert (gap.low, gap.high) == (0.5, 2.0)
  assert gap.mean == pytest.approx(0.3 * 1.25)
  assert gap.error < 1e-12  # both are measured on the same posts
  lower = measures.gap_at_kl(
    line([2.0, 0.0, 1.0], 0.5), line([0.5, 3.0], 0.2), most=1.0
  )
  assert lower.mean == pytest.approx(0.3 * 0.75)
  assert measures.gap_at_kl(line([0.0, 1.0], 1), line([1.5, 2.0], 1)) is None


def test_a_fitted_reward_is_exact_on_transitive_preferences_alone():
  rng = np.random.default_rng(0)
  rows = measures.rows_of(world.attainable(3))
  a, b = (Attributes(*rows[rng.integers(0, len(rows), 2000)].T) for _ in "ab")
  gold, cycle = (judges.fit(judges.RATERS[n], a, b) for n in ("gold", "cycle"))
  assert gold.nll == pytest.approx(gold.floor, abs=1e-3)
  assert cycle.nll > cycle.floor + 0.05
  np.testing.assert_allclose(gold.rater(a, b), world.gold_rater(a, b), atol=0.1)


def test_exact_solutions_of_a_circle():
  """From three types in equal shares, Nash keeps them and RLHF chooses."""
  start = sampled(*CYCLE)
  rows = measures.rows_of(world.attainable(3))
  rng = np.random.default_rng(0)
  a, b = (Attributes(*rows[rng.integers(0, len(rows), 2000)].T) for _ in "ab")
  fit = judges.fit(judges.RATERS["cycle"], a, b)
  got = curves("cycle", start.attributes, SALIENT, fit)
  assert (np.diff(got["RLHF"].kl) > 0).all()
  assert got["RLHF"].exploitability[-1] > 0.1
  assert got["Nash"].exploitability[-1] < got["RLHF"].exploitability[-1]


class _Bench:
  """A bench whose training is counted and does nothing."""

  def __init__(self):
    self.start = type("Start", (), {"params": {"a": jnp.arange(3.0)}})()


def test_what_was_trained_is_not_trained_again(tmp_path, monkeypatch):
  trained = []

  def make(bench, cell, method, *, reference=None):
    del method
    trained.append(cell)
    assert (reference is not None) == bool(cell.target)
    cells.save(cells.path_of(cell), bench.start.params, sampled(CYCLE[0]))
    return cells.load(cells.path_of(cell))

  monkeypatch.setattr(cells, "FOLDER", tmp_path)
  methods = "experiments.papers.nlhf_methods"
  monkeypatch.setattr(f"{methods}.make", make)
  monkeypatch.setattr(f"{methods}.time.monotonic", lambda: len(trained))
  every = order()
  assert len(set(every)) == len(every)
  answers = [cell for cell in every if cell.target][:2]
  asked = [every[0], every[1], *answers, every[2]]
  monkeypatch.setattr(f"{methods}.order", lambda: asked)
  train_missing(_Bench(), 1)
  assert trained == asked[:2]
  train_missing(_Bench(), 1e9)
  assert trained == asked
  held = results.found(["cycle", "gold", "learned"])
  assert held.keys() == set(trained)
  first = trained[0]
  assert held[first].seconds == 3 and held[first].steps == 10
  params = cells.load_params(cells.path_of(first), {"a": jnp.zeros(3)})
  np.testing.assert_array_equal(params["a"], [0, 1, 2])


def test_a_page():
  names = ("rlhf_dpo", "online_ipo", "self_play")
  held = {}
  for i, name in enumerate(names):
    for j, kind in enumerate(CYCLE):
      strength = METHODS[name].strengths[j]
      got = sampled(kind, CYCLE[i])
      held[cells.Cell("cycle", name, strength)] = got._replace(
        ratios=got.ratios + i + j
      )
  target = cells.Cell("cycle", names[0], METHODS[names[0]].strengths[0])
  held[
    cells.Cell("cycle", "responder", 0.005, 0, target.name.partition("/")[2])
  ] = sampled(CYCLE[2])
  found = {
    judge: results.measured(judge, POSTS, sampled(*CYCLE[:2]), held)
    for judge in nlhf_claims.JUDGES
  }
  assert len(found["cycle"].policies) == 9 and not found["gold"].policies
  (response,) = found["cycle"].responders.values()
  assert response.mean > 0.5  # all but one sourced beats complete plain
  gap = nlhf_claims.gaps(found["cycle"])["online_ipo", "rlhf_dpo"]
  assert (gap.low, gap.high) == (1, 2)
  assert results.seed_spread(found["cycle"]) == 0  # there is one seed
  table = results.policy_table(found["cycle"])
  assert table.count("\n") == 1 + 1 + 9
  assert results.win_matrix(found["cycle"]).count("±") == 4 * 3
  assert results.rows_of(found).count("\n") == 1 + 9
  rows = [*nlhf_claims.trained_claims(found), *nlhf_claims.panel_claims(found)]
  assert rows and all(row.finding for row in rows)
