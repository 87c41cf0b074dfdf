"""Statistics of scorers on labelled pairs, against numbers by hand."""

import math

import numpy as np
import pytest

from jalign import evaluation
from jalign.errors import UserError
from jalign.evaluation import reward_accuracy
from jalign.evaluation.calibration import pooled_interval
from jalign.evaluation.clustered import clusters, share_interval

RNG = np.random.default_rng(5)


def _sigmoid(x):
  return 1 / (1 + math.exp(-x))


def _six():
  """Six pairs of three prompts, one of them tied."""
  return evaluation.from_scores(
    [2.0, 0.5, 1.0, 0.0, -1.0, 3.0],
    [1.0, 1.0, 1.0, -4.0, 2.0, 2.5],
    chosen_tokens=[5, 9, 4, 7, 8, 3],
    rejected_tokens=[5, 4, 8, 3, 2, 6],
    groups=["a", "a", "b", "b", "c", "c"],
  )


def test_accuracy_counts_ties_as_halves_and_prompts_alike():
  got = evaluation.accuracy(_six())
  by_prompt = [(1 + 0) / 2, (0.5 + 1) / 2, (0 + 1) / 2]
  assert got.mean == pytest.approx(np.mean(by_prompt))
  error = np.std(by_prompt, ddof=1) / math.sqrt(3)
  assert got.standard_error == pytest.approx(error)
  assert got.interval == share_interval(got.mean, error, 3)
  assert reward_accuracy.tied_share(_six()) == pytest.approx(1 / 6)
  swapped = evaluation.from_scores(_six().rejected, _six().chosen)
  assert evaluation.accuracy(swapped).mean == pytest.approx(1 - 3.5 / 6)


def test_likelihood_of_certain_and_of_soft_labels():
  # offline.md's golden value of one pair: scores 1.2 and .5.
  one = evaluation.from_scores([1.2], [0.5])
  assert evaluation.negative_log_likelihood(one).mean == pytest.approx(
    0.403186, abs=1e-6
  )
  pairs = evaluation.from_scores([1.0, 0.0], [0.0, 3.0], labels=[0.7, 0.2])
  want = [
    -p * math.log(_sigmoid(m)) - (1 - p) * math.log(_sigmoid(-m))
    for p, m in ((0.7, 1.0), (0.2, -3.0))
  ]
  got = evaluation.negative_log_likelihood(pairs)
  assert got.mean == pytest.approx(np.mean(want))
  # The scorer prefers the chosen response of the first pair alone.
  assert evaluation.accuracy(pairs).mean == pytest.approx((0.7 + 0.8) / 2)
  even = evaluation.from_scores([2.0, 2.0], [2.0, 2.0])
  assert evaluation.negative_log_likelihood(even).mean == pytest.approx(
    math.log(2)
  )


def test_a_scale_makes_odds_of_scores_and_moves_no_ranking():
  plain, sharp = _six(), evaluation.from_scores([1.0], [0.0], scale=3.0)
  assert sharp.margins.tolist() == [3.0]
  doubled = evaluation.from_scores(plain.chosen, plain.rejected, scale=2.0)
  np.testing.assert_allclose(doubled.margins, 2 * plain.margins)
  assert (
    evaluation.accuracy(doubled).mean
    == evaluation.accuracy(
      evaluation.from_scores(plain.chosen, plain.rejected)
    ).mean
  )


def test_probabilities_are_log_odds_and_certain_ones_are_infinite():
  pairs = evaluation.from_probabilities([0.8, 0.5, 0.0, 1.0])
  assert pairs.margins[0] == pytest.approx(math.log(4))
  assert pairs.margins[1] == 0 and pairs.margins[2] == -math.inf
  assert evaluation.accuracy(pairs).mean == pytest.approx(2.5 / 4)
  assert evaluation.negative_log_likelihood(pairs).mean == math.inf
  right = evaluation.from_probabilities([1.0, 0.8])
  assert evaluation.negative_log_likelihood(right).mean == pytest.approx(
    -math.log(0.8) / 2
  )
  wrong = evaluation.from_probabilities([0.0], labels=[0.0])
  assert evaluation.negative_log_likelihood(wrong).mean == 0
  assert evaluation.reliability(pairs.margins).pairs[-1] == 2  # 0 and 1


def test_pairs_without_an_answer_are_left_out_and_counted():
  pairs = evaluation.from_probabilities(
    [0.9, np.nan, 0.4],
    labels=[1, 0, 0.5],
    groups=["a", "b", "c"],
    chosen_tokens=[1, 2, 3],
    rejected_tokens=[4, 5, 7],
  )
  assert len(pairs) == 2 and pairs.missing == 1
  assert pairs.groups == ["a", "c"] and pairs.labels.tolist() == [1, 0.5]
  assert pairs.longer.tolist() == [-3, -4]
  assert evaluation.accuracy(pairs).mean == 0.75
  with pytest.raises(UserError, match="none of 2 pairs"):
    evaluation.from_probabilities([np.nan, np.nan])


def test_calibration_has_the_golden_value_and_its_bins_edges():
  # offline.md, 10.5: four events, each in a bin of its own.
  got = evaluation.calibration([0.9, 0.8, 0.3, 0.55], [1, 0, 0, 1])
  assert got.ece == pytest.approx(0.4125) and got.mce == pytest.approx(0.8)
  assert np.flatnonzero(got.pairs).tolist() == [3, 5, 8, 9]
  last = evaluation.calibration([1.0, 0.0], [1, 0])
  assert last.pairs[[0, -1]].tolist() == [1, 1] and last.ece == 0
  assert evaluation.calibration([0.5] * 4, [1, 0, 1, 0]).ece == 0
  assert evaluation.calibration([1.0] * 3, [0, 0, 0]).ece == 1
  # Confidence is folded at 1/2; the last of ten bins begins at .95.
  folded = evaluation.reliability([math.log(19.5), -math.log(18.5), 0.0])
  assert folded.pairs.tolist() == [1, *[0] * 7, 1, 1]
  assert folded.accuracy[[0, 8, 9]].tolist() == [0.5, 0.0, 1.0]


def test_bins_of_equal_mass_against_a_loop():
  margins = RNG.normal(size=103) * 2
  labels = RNG.uniform(size=103)
  got = evaluation.reliability(margins, 7, equal_mass=True, labels=labels)
  order = np.argsort(np.abs(margins), kind="stable")
  off = 0.0
  for b in range(7):
    members = [i for k, i in enumerate(order) if k * 7 // 103 == b]
    sure = np.mean([_sigmoid(abs(margins[i])) for i in members])
    right = np.mean(
      [labels[i] if margins[i] > 0 else 1 - labels[i] for i in members]
    )
    off += len(members) / 103 * abs(sure - right)
    np.testing.assert_allclose(
      (got.confidence[b], got.accuracy[b]), (sure, right)
    )
  assert got.ece == pytest.approx(off)


def test_intervals_of_bins_are_wilsons_and_widen_where_pairs_cluster():
  verdicts = np.array([1.0, 0, 1, 1, 0, 1, 1, 1])
  z, n, m = 1.959963984540054, 8, verdicts.mean()
  middle = (m + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(m * (1 - m) / n + (z / 2 / n) ** 2)
  got = evaluation.calibration(np.full(8, 0.75), verdicts, 1)
  np.testing.assert_allclose(
    (got.low[0], got.high[0]), (middle - half, middle + half)
  )
  # Copies of each pair add no knowledge.
  twice = evaluation.calibration(
    np.full(16, 0.75),
    np.repeat(verdicts, 2),
    1,
    groups=np.repeat(np.arange(8), 2),
  )
  np.testing.assert_allclose(twice.low, got.low)
  np.testing.assert_allclose(twice.high, got.high)
  empty = evaluation.calibration([0.1], [0.0], 2)
  assert np.isnan(empty.low[1]) and not empty.pairs[1]


def test_intervals_of_bins_cover_the_truth():
  rng, covered, count = np.random.default_rng(0), 0, 0
  for _ in range(400):
    prompts = np.repeat(np.arange(40), 3)
    base = rng.beta(3, 1.5, 40)[prompts]  # verdicts of a prompt are alike
    verdicts = (rng.uniform(size=prompts.size) < base).astype(float)
    low, high = pooled_interval(verdicts, clusters(prompts, 120))
    covered += low <= 3 / 4.5 <= high
    count += 1
  assert covered / count > 0.91


def test_accuracy_by_the_gap_of_scores():
  bins = evaluation.by_gap(_six(), 3)
  # Gaps .0, .5, .5, 1, 3, 4 of pairs 3, 2, 6, 1, 5, 4.
  assert [b.pairs for b in bins] == [2, 2, 2]
  assert [(b.low, b.high) for b in bins] == [(0, 0.5), (0.5, 1), (3, 4)]
  assert [b.accuracy.mean for b in bins] == [0.25, 1.0, 0.5]
  assert bins[2].middle == 3.5 and bins[0].longer is None
  assert len(evaluation.by_gap(_six(), 100)) == 6  # empty bins are left out


def test_accuracy_by_the_gap_of_lengths_and_length_bias():
  # Lengths differ by 0, 5, -4, 4, 6, -3; margins are 1, -.5, 0, 4, -3, .5.
  bins = evaluation.by_length(_six(), 2)
  assert [b.pairs for b in bins] == [3, 2]
  assert [(b.low, b.high) for b in bins] == [(3, 4), (5, 6)]
  # Pairs 6, 3, 4 (longer: rejected, rejected, chosen), of prompts c, b, b.
  assert bins[0].accuracy.mean == pytest.approx((1 + (0.5 + 1) / 2) / 2)
  assert bins[0].longer.mean == pytest.approx((0 + (0.5 + 1) / 2) / 2)
  assert bins[0].labelled_longer.mean == pytest.approx((0 + (0 + 1) / 2) / 2)
  bias = evaluation.length_bias(_six())
  assert bias.pairs == 5
  # By prompts: a: 0 of 1; b: 1/2 and 1; c: 0 and 0. Labels: 1; 0, 1; 1, 0.
  assert bias.scorer.mean == pytest.approx((0 + 0.75 + 0) / 3)
  assert bias.labels.mean == pytest.approx((1 + 0.5 + 0.5) / 3)
  assert bias.difference.mean == pytest.approx(0.25 - 2 / 3)
  assert bias.chosen_longer.mean == pytest.approx((0 + 1 + 0) / 3)
  assert bias.chosen_shorter.mean == pytest.approx((0.5 + 1) / 2)
  alike = evaluation.from_scores(
    [1.0], [0], chosen_tokens=[3], rejected_tokens=[3]
  )
  assert evaluation.length_bias(alike) is None
  assert evaluation.length_bias(evaluation.from_scores([1.0], [0.0])) is None
  assert evaluation.by_length(evaluation.from_scores([1.0], [0.0])) == []


def test_a_scorer_of_length_alone_has_a_bias_of_what_labels_lack():
  longer = RNG.integers(-5, 6, 4000)
  labels = np.ones(4000)  # chosen responses are as often longer as shorter
  pairs = evaluation.from_margins(
    0.7 * longer,
    labels=labels,
    chosen_tokens=10 + longer,
    rejected_tokens=np.full(4000, 10),
  )
  bias = evaluation.length_bias(pairs)
  assert bias.scorer.mean == 1 and bias.labels.mean == pytest.approx(
    0.5, abs=0.03
  )
  assert (bias.chosen_longer.mean, bias.chosen_shorter.mean) == (1, 0)
  assert bias.difference.interval[0] > 0.45


def test_the_gap_to_bayes_is_exact_and_zero_for_the_truth():
  q = np.array([0.9, 0.3, 0.5, 1.0])
  known = dict(exact=q, groups=[0, 0, 1, 2])
  got = evaluation.bayes_gap(
    evaluation.from_margins([1.0, 2.0, -1, 0], **known)
  )
  own, best = [0.9, 0.3, 0.5, 0.5], [0.9, 0.7, 0.5, 1.0]
  mean = lambda x: (np.mean(x[:2]) + x[2] + x[3]) / 3
  assert got.accuracy.mean == pytest.approx(mean(own))
  assert got.best_accuracy.mean == pytest.approx(mean(best))
  assert got.accuracy_gap.mean == pytest.approx(mean(best) - mean(own))
  divergence = [
    sum(
      a * math.log(a / b)
      for a, b in ((p, _sigmoid(m)), (1 - p, _sigmoid(-m)))
      if a
    )
    for p, m in zip(q, (1.0, 2.0, -1, 0))
  ]
  assert got.nll_gap.mean == pytest.approx(mean(divergence))
  truth = evaluation.bayes_gap(evaluation.from_probabilities(q, **known))
  assert truth.accuracy_gap.mean == 0
  assert truth.nll_gap.mean == pytest.approx(0, abs=1e-12)
  assert evaluation.bayes_gap(_six()) is None


def test_accuracies_of_raters_add_up():
  raters = ["y", "x", "y", "x", "x", "z"]
  pairs = evaluation.from_scores(_six().chosen, _six().rejected, raters=raters)
  got = evaluation.by_rater(pairs)
  assert list(got) == ["x", "y", "z"]
  assert {k: n for k, (n, _) in got.items()} == {"x": 3, "y": 2, "z": 1}
  assert got["x"][1].mean == pytest.approx(1 / 3)
  assert got["y"][1].mean == pytest.approx(0.75)
  total = sum(n * share.mean for n, share in got.values()) / 6
  assert total == pytest.approx(evaluation.accuracy(pairs).mean)
  assert evaluation.by_rater(_six()) == {}


def test_lists_give_every_pair_of_different_ranks():
  pairs = evaluation.from_lists(
    [[0.3, -0.1, 0.2], [1.0, 0.0]],
    [[1, 2, 2], [2, 1]],
    tokens=[[5, 6, 7], [8, 9]],
    groups=["p", "q"],
  )
  np.testing.assert_allclose(pairs.margins, [0.4, 0.1, -1.0])
  assert pairs.groups == ["p", "p", "q"]
  assert pairs.longer.tolist() == [-1, -2, 1]
  assert evaluation.accuracy(pairs).mean == 0.5  # prompts 1 and 0
  with pytest.raises(UserError, match="no labelled pairs"):
    evaluation.from_lists([[1.0, 2.0]], [[1, 1]])


def test_objectives_have_accuracies_of_their_own_labels():
  margins = np.array([[1.0, -1], [2, 1], [-1, 3], [0, -2]])
  labels = np.array([[1.0, 0], [1, np.nan], [1, 1], [0, 1]])
  got = evaluation.objectives(margins, labels, ("help", "harm"))
  assert got.pairs.tolist() == [4, 3]
  assert [share.mean for share in got.accuracy] == [2.5 / 4, 2 / 3]
  np.testing.assert_allclose(got.across[0, 1], (0 + 0 + 0.5) / 3)
  cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))
  np.testing.assert_allclose(got.correlation[0, 1], cosine(*margins.T))
  np.testing.assert_allclose(np.diag(got.correlation), 1)
  np.testing.assert_allclose(got.labelled[0, 1], (-1 + 1 - 1) / 3)
  # The order of a pair is arbitrary: swapping some pairs changes nothing.
  sign = np.array([[1], [-1], [1], [-1]])
  swapped = evaluation.objectives(
    sign * margins, 0.5 + sign * (labels - 0.5), ("help", "harm")
  )
  np.testing.assert_allclose(swapped.correlation, got.correlation)
  np.testing.assert_allclose(swapped.across, got.across)
  with pytest.raises(UserError, match="3 objectives"):
    evaluation.objectives(margins, labels, ("a", "b", "c"))


def test_members_of_an_ensemble():
  margins = np.array([[1.0, -1, 2, 0], [3, 1, -1, 1], [1, 2, 1, 1]])
  got = evaluation.ensemble(margins)
  assert [share.mean for share in got.accuracy] == [2.5 / 4, 3 / 4, 1]
  assert got.of_mean.mean == 1
  assert got.gain.mean == pytest.approx(1 - (2.5 + 3 + 4) / 12)
  assert got.agreement[0, 1] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
  assert got.unanimous == 1 / 4 and got.right_if_unanimous.mean == 1
  assert got.right_if_split.mean == 1
  assert got.spread == pytest.approx(margins.std(0).mean())
  twins = evaluation.ensemble(margins[[1, 1]])
  assert twins.right_if_split is None and twins.spread == 0
  with pytest.raises(UserError, match="two or more"):
    evaluation.ensemble(margins[:1])


def test_the_summary_has_names_and_intervals():
  pairs = evaluation.from_scores(
    _six().chosen,
    _six().rejected,
    exact=np.full(6, 0.8),
    chosen_tokens=_six().chosen_tokens,
    rejected_tokens=_six().rejected_tokens,
    groups=_six().groups,
  )
  got = reward_accuracy.summary(pairs)
  assert got["score_accuracy"]["mean"] == evaluation.accuracy(pairs).mean
  assert got["score_bayes_accuracy"]["mean"] == pytest.approx(0.8)
  assert got["score_mean"]["mean"] == pytest.approx(9 / 12)
  assert (
    got["score_calibration_ece"] == evaluation.reliability(pairs.margins).ece
  )
  bare = reward_accuracy.summary(evaluation.from_margins([1.0, -1.0]))
  assert set(got) - set(bare) == {
    "score_mean",
    "score_longer_share",
    "label_longer_share",
    "score_bayes_accuracy",
    "score_bayes_gap_share",
    "score_bayes_gap_nats",
  }


@pytest.mark.parametrize(
  "make, said",
  [
    (lambda: evaluation.from_scores([1.0, np.nan], [0, 0]), "1 of 2 chosen"),
    (lambda: evaluation.from_scores([1.0], [0.0, 1.0]), "1 scores"),
    (lambda: evaluation.from_probabilities([1.2]), "not a probability"),
    (lambda: evaluation.from_margins([np.nan]), "1 of 1 margins"),
    (lambda: evaluation.from_margins([]), "no labelled pairs"),
    (lambda: evaluation.from_margins([1.0], labels=[2.0]), "not a probability"),
    (lambda: evaluation.from_margins([1.0], groups=["a", "b"]), "2 groups"),
    (lambda: evaluation.calibration([1.2], [1]), "outside"),
    (lambda: evaluation.reliability(np.zeros((2, 2))), "shape"),
  ],
)
def test_numbers_that_make_no_sense_are_refused(make, said):
  with pytest.raises(UserError, match=said):
    make()
