"""The trained reproductions' claims, on measurements without training."""

import numpy as np
import pytest

from experiments.papers import claims, likelihoods_trained, rankings_trained
from experiments.papers.alignment import Course
from experiments.papers.panel import QUANTITIES
from jalign.evaluation.likelihood import PairScores

RNG = np.random.default_rng(0)


def course(wins, mass):
  n = len(wins)
  values = {name: np.linspace(0, -1, n) for name in QUANTITIES}
  values["rejected"] = np.linspace(0, -5, n)
  values |= {"win_rate": np.array(wins), "mass": np.array(mass)}
  values["win_error"] = np.full(n, 0.01)
  return Course(None, 20 * np.arange(n), values)


def test_peaks_and_turns_of_known_curves():
  up = np.linspace(0.5, 0.6, 9)
  best, turned = course(up, up), course(up[::-1], np.r_[up[:3], up[:6]])
  assert likelihoods_trained.peak(best) == 8
  assert likelihoods_trained.peak(turned) == 0
  assert not likelihoods_trained.worsens(best)
  assert likelihoods_trained.worsens(turned)
  assert likelihoods_trained.turn(best, "mass", falls=False) is None
  assert likelihoods_trained.turn(turned, "entropy", falls=False) == 0
  np.testing.assert_allclose(
    likelihoods_trained.smooth(np.array([0.0, 3.0, 6.0])), [1.5, 3, 4.5]
  )


def test_a_page_of_likelihoods():
  up = np.linspace(0.5, 0.6, 9)
  runs = {name: course(up, up) for name in likelihoods_trained.RUNS}
  runs[likelihoods_trained.WEAK] = course(up[::-1], up[::-1])
  rows = [
    *likelihoods_trained.yan_claims(runs),
    *likelihoods_trained.shi_claims(runs),
  ]
  assert all(row.finding for row in rows) and {r.holds for r in rows} <= {0, 1}
  page = likelihoods_trained.table(runs)
  assert page.count("| DPO, beta 0.02 |") == 2  # because its peak is its start
  assert likelihoods_trained.draw(runs).axes


def scores(c, gain=0.0):
  """Scores of pairs whose log-odds against them are c - gain, [P] nats."""
  n = len(c)
  return PairScores(
    np.full(n, -20.0) + gain,
    c - 20.0,
    np.full(n, 10),
    np.full(n, 10),
    tuple(map(str, range(n))),
  )


@pytest.fixture
def study():
  c = {part: RNG.normal(size=200) * 5 for part in rankings_trained.PARTS}
  names = {part: [str(i) for i in range(200)] for part in c}
  ref = {part: scores(x) for part, x in c.items()}
  tuned = {b: {p: scores(x, g) for p, x in c.items()}
           for b, g in ((0.1, 1.0), (1.0, 4.0))}  # fmt: skip
  agreement = {part: np.full(200, 0.9) for part in c}
  return rankings_trained.Study("world", names, ref, tuned, agreement, 7)


def test_a_page_of_rankings(study):
  rows = rankings_trained.claims_of(study)
  law, *findings = rows
  assert law.holds and not law.finding and "0 exceptions in 800" in law.ours
  assert all(row.finding for row in findings)
  page = rankings_trained.table([study])
  assert page.count("TL;DR world, DPO, beta 0.1") == 2
  assert rankings_trained.draw([study]).axes


def test_what_is_put_right(study):
  c = -(study.ref["eval"].chosen - study.ref["eval"].rejected)
  put, spoilt = rankings_trained.flips(study, 1.0, "eval")
  assert put == pytest.approx(100 * np.mean((c > 0) & (c <= 4)))
  assert spoilt == 0
  x, y = rankings_trained.flipped_by_difficulty(study, 1.0, "eval", 4)
  assert (np.diff(x) > 0).all() and y[0] == 100 and y[-1] == 0


def test_a_finding_fails_nothing(tmp_path):
  law = claims.Claim("a", "b", "c", True)
  finding = law._replace(holds=False, finding=True)
  figure = likelihoods_trained.new_figure
  report = lambda rows: claims.report(
    "x", "X", rows, lambda: figure(1, 1, ""), tmp_path, "more"
  )
  assert report([law, finding]) == 0
  page = (tmp_path / "x.md").read_text()
  assert "**no** (measured)" in page and page.endswith("more\n")
  assert report([law, law._replace(holds=False)]) == 1
