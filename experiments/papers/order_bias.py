"""Judges that prefer a place, exactly and in the world (FairEval).

The Gaussian judge compares responses whose gap in quality is N(.3, 1) by a
score gap with N(0, 1) noise and a bonus for the place shown first. The world's
judge adds the bonus to the log-odds of the gold rater.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.papers.claims import Claim
from jalign.data import tldr_world as world
from jalign.evaluation.judge_check import JudgeCheck, check_judge
from jalign.feedback import Answers, Judge, from_batch, make_answers
from jalign.feedback.evidence import (
  both_orders,
  for_people,
  mean_scores,
  verdict_entropy,
  verdicts,
)

FAIR = "ours, on Wang et al. 2023, arXiv:2305.17926"
BONUS, MEAN = 0.8, 0.3
SAMPLES = (1, 3, 6)  # k, pieces of evidence in each order
SENT = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
SAME = {0.2: 0.4327, 1.0: 0.5357, 3.0: 0.8827}


def sigmoid(x: np.ndarray) -> np.ndarray:
  """1 / (1 + exp(-x))."""
  return 0.5 * (1 + np.tanh(0.5 * np.asarray(x)))


def same_winner(gap: np.ndarray, bonus: float = BONUS) -> np.ndarray:
  """P(drawn verdicts of both orders name one winner), of a logistic judge."""
  p, q = sigmoid(gap + bonus), sigmoid(gap - bonus)
  return p * q + (1 - p) * (1 - q)


# --------------------------------------------------------------- Gaussian judge


def win_rates(bonus: float = BONUS) -> dict[str, float]:
  """Exact win rates of the better policy, by how verdicts are made."""
  first, second = (
    float(stats.norm.cdf((MEAN + sign * bonus) / np.sqrt(2)))
    for sign in (1, -1)
  )
  return {
    "first": first,
    "second": second,
    "mean of verdicts": (first + second) / 2,
    "mean of scores": float(stats.norm.cdf(MEAN / np.sqrt(1.5))),
    "truth": float(stats.norm.cdf(MEAN)),
  }


def exact_accuracy(k: int, bonus: float = 0.0, both: bool = True) -> float:
  """P(the mean score's verdict is that of the true gap).

  Args:
    k: number of samples in an order.
    bonus: what is left of the bonus in the mean.
    both: whether both orders are asked, so that 2k samples are averaged.
  """
  gap, step = np.linspace(-8, 8, 160_001, retstep=True)
  sd = 1 / np.sqrt((1 + both) * k)
  right = stats.norm.cdf(np.sign(gap) * (gap + bonus) / sd)
  return float(stats.norm.pdf(gap - MEAN) @ right * step)


class Sampled(NamedTuple):
  """N questions to the Gaussian judge, k samples in each order.

  Attributes:
    gap: [N] true gaps.
    mean: [N] difference of the mean scores of both orders.
    verdicts: [N, 2k] verdicts of the samples.
  """

  gap: np.ndarray
  mean: np.ndarray
  verdicts: np.ndarray


@functools.cache
def sampled(k: int, bonus: float = BONUS, count: int = 100_000) -> Sampled:
  """Draws questions and scores."""
  rng = np.random.default_rng(k)
  gap = rng.normal(MEAN, 1, count)
  scores = np.zeros((2, count, k, 2))
  scores[..., 0] = gap[:, None] + rng.normal(size=(2, count, k))
  scores[0, ..., 0] += bonus
  scores[1, ..., 1] += bonus
  mean = mean_scores(*scores)
  return Sampled(gap, mean[:, 0] - mean[:, 1], verdicts(*scores))


def with_people(drawn: Sampled) -> dict[str, np.ndarray]:
  """Accuracy when people, who are right, judge the shares `SENT` of pairs.

  Returns:
    How the pairs are chosen -> [SENT] accuracies: by the entropy of verdicts,
    in any order, and by the absolute mean difference.
  """
  right = np.sign(drawn.mean) == np.sign(drawn.gap)
  entropy = verdict_entropy(drawn.verdicts)

  def accuracy(worst: np.ndarray, share: float) -> float:
    found = right.copy()
    found[for_people(worst, share)] = True
    return float(found.mean())

  ways = {"entropy": entropy, "small mean gap": -np.abs(drawn.mean)}
  curves = {
    name: np.array([accuracy(worst, share) for share in SENT])
    for name, worst in ways.items()
  }
  sent = np.array(SENT)
  return curves | {"any pairs": right.mean() * (1 - sent) + sent}


def gaussian_claims(bonus: float = BONUS) -> list[Claim]:
  """What order does to win rates, and what evidence and people remove."""
  rates = win_rates(bonus)
  drawn = sampled(1, bonus)
  scores, truth = rates["mean of scores"], rates["truth"]
  counted = {
    "first": drawn.verdicts[:, 0].mean(),
    "second": drawn.verdicts[:, 1].mean(),
    "mean of verdicts": drawn.verdicts.mean(),
    "mean of scores": (drawn.mean > 0).mean(),
    "truth": (drawn.gap > 0).mean(),
  }
  far = max(abs(counted[name] - rate) for name, rate in rates.items())
  one = exact_accuracy(1, bonus, False)
  exact = {k: exact_accuracy(k) for k in SAMPLES}
  found = {
    k: float(np.mean(np.sign(s.mean) == np.sign(s.gap)))
    for k, s in ((k, sampled(k, bonus)) for k in SAMPLES)
  }
  off = max(abs(found[k] - exact[k]) for k in SAMPLES)
  people = with_people(sampled(3, bonus))
  some = SENT.index(0.2)
  at = {name: curve[some] for name, curve in people.items()}
  return [
    Claim(
      FAIR,
      "the order alone decides who wins: 0.782 shown first, 0.362 shown second;"
      " scores of both orders give 0.597, the mean of verdicts 0.572, where"
      " the truth is 0.618",
      "; ".join(f"{name} {rate:.4f}" for name, rate in rates.items())
      + f"; 100,000 draws differ by {far:.4f} at most",
      bool(far < 0.006)
      and rates["first"] > 0.5 > rates["second"]
      and abs(scores - truth) < abs(rates["mean of verdicts"] - truth) - 0.02,
    ),
    Claim(
      FAIR,
      "both orders and more pieces of evidence make verdicts right more often",
      f"one order, one sample {one:.4f}; both orders, k samples each: "
      + ", ".join(f"{k}: {exact[k]:.4f} ({found[k]:.4f})" for k in SAMPLES)
      + " exactly (and drawn)",
      one < exact[1] < exact[3] < exact[6] and off < 0.006,
    ),
    Claim(
      FAIR,
      "people who judge the fifth of pairs with the largest entropy raise the"
      " accuracy by more than people who judge any fifth",
      f"k = 3: {people['entropy'][0]:.4f} without people; entropy"
      f" {at['entropy']:.4f}, any pairs {at['any pairs']:.4f}, the smallest"
      f" mean gaps {at['small mean gap']:.4f}",
      bool(at["entropy"] > at["any pairs"] + 0.02),
    ),
    Claim(
      "derived",
      "but the entropy of a judge with a bias is large where both orders"
      " differ, and the mean gap says better where an unbiased mean errs",
      f"0.2 sent: {at['small mean gap']:.4f} against {at['entropy']:.4f}",
      bool(at["small mean gap"] > at["entropy"]),
    ),
  ]


# ----------------------------------------------------------- the world's judge


class WorldPairs(NamedTuple):
  """Pairs of two archetypes for the same posts."""

  a: Answers
  b: Answers


@functools.cache
def world_pairs(posts: int = 40, start: int = 0) -> WorldPairs:
  """All pairs of different archetypes of some posts."""
  prompts, a, b = [], [], []
  for i in range(start, start + posts):
    there = world.post(i)
    texts = [world.archetype(name, there) for name in world.ARCHETYPES]
    for j, x in enumerate(texts):
      for y in texts[:j]:
        if x != y:
          prompts.append(there.text)
          a.append(x)
          b.append(y)
  return WorldPairs(make_answers(prompts, a), make_answers(prompts, b))


def place_biased(bonus: float = BONUS) -> Judge:
  """The gold rater with a bonus for the first place on its log-odds."""

  def preference(posts, a, b):
    of_a, of_b = (world.attributes(posts, x) for x in (a, b))
    return sigmoid(2 * (world.reward(of_a) - world.reward(of_b)) + bonus)

  return from_batch(preference)


def ask(judge: Judge, a: Answers, b: Answers) -> np.ndarray:
  """[N] P(a is preferred) under a judge that compares texts."""
  assert judge.preference is not None
  return np.asarray(judge.preference(a, b), np.float64)


def checked(pairs: WorldPairs, bonus: float = BONUS) -> JudgeCheck:
  """The judge's statistics, the gold preference as label."""
  judge, (a, b) = place_biased(bonus), pairs
  truth = world.gold(a.prompts, a.texts, b.texts)
  return check_judge(
    ask(judge, a, b), 1 - ask(judge, b, a), labels=truth, groups=a.prompts
  )


def world_claims(bonus: float = BONUS, posts: int = 40) -> list[Claim]:
  """An order-biased judge of the world, and how both orders correct it."""
  same = {gap: float(same_winner(gap, bonus)) for gap in SAME}
  pairs = world_pairs(posts)
  a, b = pairs
  truth = world.gold(a.prompts, a.texts, b.texts)
  gap = np.log(truth / (1 - truth))
  judge = place_biased(bonus)
  first, second = ask(judge, a, b), 1 - ask(judge, b, a)
  consistent = first * second + (1 - first) * (1 - second)
  law = np.abs(consistent - same_winner(gap, bonus)).max()
  check = checked(pairs, bonus)
  odds = ask(both_orders(judge, mean="log_odds"), a, b)
  mean = ask(both_orders(judge), a, b)
  error = {
    name: float(np.abs(x - truth).max())
    for name, x in (("odds", odds), ("probability", mean))
  }
  effect = check.order_effect
  return [
    Claim(
      FAIR,
      "consistent verdicts measure how easy a pair is as much as the bias: of a"
      " judge with bonus 0.8, 0.4327, 0.5357 and 0.8827 at gaps 0.2, 1 and 3",
      ", ".join(f"{x:.4f}" for x in same.values())
      + f"; {len(truth):,} pairs of the world obey the law to {law:.1g}",
      all(abs(same[g] - x) < 5e-5 for g, x in SAME.items())
      and bool(law < 1e-9),
    ),
    Claim(
      FAIR,
      "to ask in both orders and average log-odds removes an additive bonus;"
      " averaged probabilities keep an error",
      f"the check finds {effect or np.nan:.6f} of the bonus {BONUS:g}; conflict"
      f" {check.conflict.mean:.3f}, first place {check.first_place.mean:.3f};"
      f" largest error {error['odds']:.1g} (log-odds),"
      f" {error['probability']:.3f} (probabilities)",
      effect is not None
      and abs(effect - BONUS) < 1e-6
      and error["odds"] < 1e-6
      and error["probability"] > 0.01,
    ),
  ]
