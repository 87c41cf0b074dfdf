"""Win rates equal those of loops, simulations and a published leaderboard."""

import gzip
import json
import math

import numpy as np
import pytest

import jalign.evaluation as wr
from jalign.errors import UserError


def _clustered(rng, prompts=60, samples=4, mean=0.6, spread=1.5):
  """[prompts * samples] preferences; those of a prompt share its difficulty."""
  logits = math.log(mean / (1 - mean)) + spread * rng.normal(size=(prompts, 1))
  logits = logits + 0.5 * rng.normal(size=(prompts, samples))
  ids = np.repeat(np.arange(prompts), samples)
  return (1 / (1 + np.exp(-logits))).ravel(), ids


def _oracle(preferences, ids):
  """(rate, standard error, discrete rate) of the formulas, by loops."""
  groups, verdicts = {}, {}
  for p, i in zip(preferences, ids):
    if p == p:
      groups.setdefault(i, []).append(p)
      verdict = 1.0 if p > 0.5 else 0.0 if p < 0.5 else 0.5
      verdicts.setdefault(i, []).append(verdict)
  means = [sum(g) / len(g) for g in groups.values()]
  rate = sum(means) / len(means)
  squares = sum((m - rate) ** 2 for m in means)
  error = math.sqrt(squares / (len(means) - 1)) / math.sqrt(len(means))
  discrete = sum(sum(g) / len(g) for g in verdicts.values()) / len(verdicts)
  return rate, error, discrete


def test_loops_with_ties_missing_and_unequal_clusters():
  rng = np.random.default_rng(0)
  p, ids = rng.uniform(size=50), rng.integers(0, 12, size=50)
  p[::7], p[1::9] = 0.5, np.nan
  p[ids == 3] = np.nan
  names = [f"prompt {i}" for i in ids]
  result = wr.win_rate(p, names)
  np.testing.assert_allclose(
    [result.win_rate, result.standard_error, result.discrete_win_rate],
    _oracle(p, ids),
    rtol=1e-13,
  )
  assert result.missing == np.isnan(p).sum() > 5
  assert result.comparisons == 50 - result.missing
  assert result.prompts == len(set(ids[~np.isnan(p)])) == len(set(ids)) - 1
  low, high = result.interval
  assert 0 < low < result.win_rate < high < 1


@pytest.mark.parametrize(
  "wins, prompts, low, high",
  [(8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1), (0, 10, 0, 0.2775)],
)
def test_verdicts_have_wilsons_interval(wins, prompts, low, high):
  verdicts = [1.0] * wins + [0.0] * (prompts - wins)
  interval = wr.win_rate(verdicts).interval
  np.testing.assert_allclose(interval, [low, high], atol=5e-5)
  # Three equal verdicts for each prompt tell no more than one.
  thrice = wr.win_rate(np.repeat(verdicts, 3), np.repeat(range(prompts), 3))
  np.testing.assert_allclose(thrice.interval, interval)


def test_soft_preferences_narrow_the_interval_and_never_to_nothing():
  rng = np.random.default_rng(4)
  soft = wr.win_rate(rng.beta(20, 20, 500))
  half = 1.96 * soft.standard_error
  np.testing.assert_allclose(np.diff(soft.interval), 2 * half, rtol=0.2)
  same = wr.win_rate(np.full(64, 0.65))
  assert same.standard_error < 1e-12
  assert 0.64 < same.interval[0] < 0.649 < 0.651 < same.interval[1] < 0.66
  # Nearly certain preferences are like verdicts: rare losses weren't seen.
  sure, all_won = wr.win_rate(np.full(64, 1 - 1e-9)), wr.win_rate(np.ones(64))
  np.testing.assert_allclose(sure.interval, all_won.interval, atol=1e-6)
  assert all_won.interval[0] == pytest.approx(1 - 3.8415 / (64 + 3.8415))


@pytest.mark.parametrize(
  "draw, share",
  [
    (lambda rng, n: (rng.random(n) < 0.97).astype(float), 0.97),
    (lambda rng, n: 0.999 * (rng.random(n) < 0.97), 0.999 * 0.97),
    (lambda rng, n: rng.beta(8, 2, n), 0.8),
    (lambda rng, n: rng.beta(50, 1, n), 50 / 51),
  ],
)
def test_intervals_near_the_ends_cover_the_share(draw, share):
  rng, covered = np.random.default_rng(5), 0
  for _ in range(1000):
    low, high = wr.win_rate(draw(rng, 64)).interval
    covered += low <= share <= high
  assert covered >= 930


def test_prompts_weigh_the_same_whatever_their_samples():
  result = wr.win_rate([1.0, 1.0, 1.0, 0.0], [7, 7, 7, 8])
  assert result.win_rate == result.discrete_win_rate == 0.5


def test_one_sample_a_prompt_is_the_plain_standard_error():
  p = np.random.default_rng(1).uniform(size=30)
  result = wr.win_rate(p)
  np.testing.assert_allclose(result.win_rate, p.mean())
  np.testing.assert_allclose(
    result.standard_error, p.std(ddof=1) / np.sqrt(30), rtol=1e-13
  )


@pytest.mark.parametrize("seed", range(3))
def test_flipping_the_comparison_gives_one_minus(seed):
  rng = np.random.default_rng(seed)
  p, ids = rng.choice([0, 0.2, 0.5, 0.9, np.nan], 40), rng.integers(0, 15, 40)
  rate, other = wr.win_rate(p, ids), wr.win_rate(1 - p, ids)
  np.testing.assert_allclose(rate.win_rate, 1 - other.win_rate)
  np.testing.assert_allclose(
    rate.discrete_win_rate, 1 - other.discrete_win_rate
  )
  np.testing.assert_allclose(rate.standard_error, other.standard_error)
  np.testing.assert_allclose(rate.interval, 1 - np.array(other.interval)[::-1])


def test_clustered_error_agrees_with_a_cluster_bootstrap():
  rng = np.random.default_rng(2)
  p, ids = _clustered(rng, prompts=200)
  result = wr.win_rate(p, ids)
  table = p.reshape(200, 4)
  draws = rng.integers(0, 200, size=(4000, 200))
  bootstrap = table[draws].mean((1, 2)).std(ddof=1)
  assert abs(result.standard_error / bootstrap - 1) < 0.05
  naive = wr.win_rate(p).standard_error
  assert result.standard_error > 1.5 * naive


def test_interval_covers_the_truth():
  rng = np.random.default_rng(3)
  truth = _clustered(rng, prompts=400_000, samples=1)[0].mean()
  covered = {True: 0, False: 0}
  for _ in range(1000):
    p, ids = _clustered(rng)
    verdicts = (rng.uniform(size=p.size) < p).astype(float)
    for clustered in covered:
      low, high = wr.win_rate(verdicts, ids if clustered else None).interval
      covered[clustered] += low <= truth <= high
  assert 930 <= covered[True] <= 970  # 4 standard errors of 1000 draws: 28
  assert covered[False] < 900


def test_nothing_judged_and_one_prompt():
  empty = wr.win_rate([np.nan, np.nan])
  assert math.isnan(empty.win_rate) and math.isnan(empty.standard_error)
  assert (empty.prompts, empty.comparisons, empty.missing) == (0, 0, 2)
  rate = wr.win_rate([0.25, 0.75], ["a", "a"])
  assert rate.win_rate == 0.5 and math.isnan(rate.standard_error)
  assert 0 < rate.interval[0] < 0.2
  assert rate.interval[1] == 1 - rate.interval[0]
  assert np.isnan(empty.interval).all()


@pytest.mark.parametrize("bad", [1.5, -0.1, np.inf, 100.0])
def test_values_outside_the_unit_interval_are_named(bad):
  with pytest.raises(UserError, match=r"preferences\[2\]"):
    wr.win_rate([0.1, 0.2, bad])
  with pytest.raises(UserError, match="2 prompt ids for 3"):
    wr.win_rate([0.1, 0.2, 0.3], [1, 2])


def _with_length_effect(rng, effect, quality=0.4, prompts=3000, longer=150.0):
  """Verdicts and lengths of a policy that writes `longer` more on average."""
  baseline = rng.uniform(200, 2000, size=prompts)
  lengths = baseline + longer + 200 * rng.normal(size=prompts)
  difference = lengths - baseline
  logit = quality + effect * np.tanh(difference / difference.std())
  verdicts = rng.uniform(size=prompts) < 1 / (1 + np.exp(-logit))
  return verdicts.astype(float), lengths, baseline


def test_length_adjustment_recovers_the_rate_at_equal_length():
  rng = np.random.default_rng(4)
  truth = 1 / (1 + math.exp(-0.4))
  for effect in (1.5, -1.5):
    p, lengths, baseline = _with_length_effect(rng, effect)
    result = wr.length_adjusted(p, lengths, baseline)
    assert abs(result.win_rate - truth) < 3 * result.standard_error < 0.05
    assert abs(result.length_effect - effect) < 3 * result.length_effect_error
    # The sign: if length is rewarded, the policy that writes more looks better.
    gap = (result.raw.win_rate - truth) * math.copysign(1, effect)
    assert gap > 4 * result.raw.standard_error


def test_length_adjustment_changes_nothing_without_an_effect():
  rng = np.random.default_rng(5)
  p, lengths, baseline = _with_length_effect(rng, 0.0, longer=0.0)
  result = wr.length_adjusted(p, lengths, baseline)
  assert abs(result.length_effect) < 3 * result.length_effect_error
  assert abs(result.win_rate - result.raw.win_rate) < 2e-3
  np.testing.assert_allclose(
    result.standard_error, result.raw.standard_error, rtol=0.02
  )


def test_equal_lengths_give_the_raw_rate_and_its_error():
  p, ids = _clustered(np.random.default_rng(6))
  p[5] = np.nan
  result = wr.length_adjusted(p, np.full(240, 9), np.full(240, 9), ids)
  np.testing.assert_allclose(result.win_rate, result.raw.win_rate, rtol=1e-3)
  np.testing.assert_allclose(
    result.standard_error, result.raw.standard_error, rtol=2e-3
  )
  assert result.length_effect == 0


def test_length_adjustment_flips_with_the_comparison():
  rng = np.random.default_rng(7)
  p, lengths, baseline = _with_length_effect(rng, 1.0, prompts=200)
  ids = np.repeat(np.arange(50), 4)
  rate = wr.length_adjusted(p, lengths, baseline, ids)
  other = wr.length_adjusted(1 - p, baseline, lengths, ids)
  np.testing.assert_allclose(rate.win_rate, 1 - other.win_rate, rtol=1e-9)
  np.testing.assert_allclose(rate.length_effect, other.length_effect, rtol=1e-9)
  np.testing.assert_allclose(rate.interval, 1 - np.array(other.interval)[::-1])


def test_length_adjusted_error_agrees_with_a_cluster_bootstrap():
  rng = np.random.default_rng(8)
  p, ids = _clustered(rng, prompts=150)
  lengths = 100 * (p + rng.normal(size=p.size)).reshape(150, 4)
  p = p.reshape(150, 4)
  base = np.zeros(600)
  result = wr.length_adjusted(p.ravel(), lengths.ravel(), base, ids)
  rates = []
  for _ in range(400):
    draw = rng.integers(0, 150, size=150)
    sample = wr.length_adjusted(
      p[draw].ravel(), lengths[draw].ravel(), base, ids
    )
    rates.append(sample.win_rate)
  assert abs(result.standard_error / np.std(rates, ddof=1) - 1) < 0.12


def test_length_adjusted_interval_covers_the_truth():
  rng, covered = np.random.default_rng(9), 0
  truth = 1 / (1 + math.exp(-0.4))
  for _ in range(500):
    data = _with_length_effect(rng, 1.0, prompts=200)
    low, high = wr.length_adjusted(*data).interval
    covered += low <= truth <= high
  assert 455 <= covered <= 494  # 4 standard errors of 500 draws: 19.5


def test_separated_and_one_sided_verdicts_stay_finite():
  lengths = np.arange(10.0)
  separated = (lengths > 4).astype(float)
  for p in (separated, np.ones(10), np.zeros(10)):
    result = wr.length_adjusted(p, lengths, np.full(10, 4.5))
    assert 0 <= result.win_rate <= 1
    assert np.isfinite(result.interval).all()
    low, high = result.interval
    assert low <= result.win_rate <= high and high - low > 0.2
  with pytest.raises(UserError, match="every length differs by 3"):
    wr.length_adjusted([0.1, 0.9], [5, 6], [2, 3])
  with pytest.raises(UserError, match="no comparison was judged"):
    wr.length_adjusted([np.nan], [5], [2])
  with pytest.raises(UserError, match="finite lengths"):
    wr.length_adjusted([0.1, 0.9], [5, np.nan], [2, 3])


def test_win_matrix_is_antisymmetric_and_agrees_with_win_rate():
  rng = np.random.default_rng(10)
  p = rng.uniform(size=(3, 3, 24))
  p[0, 1, :3] = np.nan
  for i in range(3):
    for j in range(i):
      p[i, j] = 1 - p[j, i]
  ids = np.repeat(np.arange(8), 3)
  matrix = wr.win_matrix(["a", "b", "c"], p, ids)
  np.testing.assert_allclose(matrix.win_rate + matrix.win_rate.T, 1)
  rate = wr.win_rate(p[0, 1], ids)
  assert (matrix.low[0, 1], 1 - matrix.low[1, 0]) == rate.interval
  assert matrix.win_rate[0, 1] == rate.win_rate
  assert matrix.standard_error[1, 0] == rate.standard_error
  assert matrix.comparisons[0, 1] == 21 and matrix.comparisons[1, 1] == 0
  assert (np.diag(matrix.win_rate) == 0.5).all()

  p[2, 1, 4] += 0.01
  with pytest.raises(UserError, match=r"preferences\[1, 2, 4\]"):
    wr.win_matrix(["a", "b", "c"], np.clip(p, 0, 1), ids)
  p[2, 1, 4] = np.nan
  with pytest.raises(UserError, match="sum to 1"):
    wr.win_matrix(["a", "b", "c"], p, ids)


def test_head_to_head_judges_each_pair_once():
  calls = []

  def longer(a, b):
    calls.append((a[0], b[0]))
    sizes = [(len(x), len(y)) for x, y in zip(a, b)]
    return [float(x > y) + 0.5 * (x == y) for x, y in sizes]

  responses = {"a": ["x", "xx"], "b": ["yy", "yyy"], "c": ["z", "z"]}
  matrix = wr.head_to_head(responses, longer)
  assert calls == [("x", "yy"), ("x", "z"), ("yy", "z")]
  np.testing.assert_allclose(
    matrix.win_rate, [[0.5, 0, 0.75], [1, 0.5, 1], [0.25, 0, 0.5]]
  )
  with pytest.raises(UserError, match="response counts differ"):
    wr.head_to_head({"a": ["x"], "b": []}, longer)


@pytest.fixture(scope="module")
def alpacaeval(shared):
  folder = shared / "data"
  leaderboard = json.loads(
    (folder / "alpacaeval2_leaderboard.json").read_text()
  )
  with gzip.open(folder / "alpacaeval2_ranked.jsonl.gz", "rt") as file:
    rows = [json.loads(line) for line in file]
  judged: dict[str, list[tuple[float, int, int]]] = {}
  for row in rows:
    baseline = len(row["responses"][0]["text"])
    for response in row["responses"][1:]:
      p = response["win_probability"]
      judged.setdefault(response["model"], []).append(
        (math.nan if p is None else p, len(response["text"]), baseline)
      )
  return leaderboard, {m: np.array(v).T for m, v in judged.items()}


def test_reproduces_the_published_leaderboard(alpacaeval):
  leaderboard, judged = alpacaeval
  assert leaderboard.keys() == judged.keys() and len(judged) == 8
  for model, published in leaderboard.items():
    result = wr.win_rate(judged[model][0])
    for key in ("win_rate", "standard_error", "discrete_win_rate"):
      ours = 100 * getattr(result, key)
      assert abs(ours - published[key]) < 1e-4, (model, key, ours)
    assert result.comparisons == published["n_total"] and result.missing == 0


def test_the_judge_of_alpacaeval_rewards_length(alpacaeval):
  p, lengths, baseline = alpacaeval[1]["FuseChat-Gemma-2-9B-Instruct"]
  result = wr.length_adjusted(p, lengths, baseline)
  assert result.length_effect > 3 * result.length_effect_error
