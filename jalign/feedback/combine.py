"""Judges made of several judges: sums, ANDs, ensembles and populations.

The numbers of each judge are kept as parts, which reports show beside the
whole. Where one of the judges gives no answer (NaN), the whole gives none.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from jalign.errors import UserError, nearest
from jalign.feedback.answers import Answers
from jalign.feedback.judge import Judge, Parts, checked_scale
from jalign.feedback.nested import (
  Judges,
  ask,
  check_has,
  check_weights,
  prefer,
  shares,
  whole,
)
from jalign.feedback.references import Reference, reference_of
from jalign.feedback.rewards import Assessed
from jalign.feedback.segments import weighted_segments

_NONE: Mapping[str, float] = MappingProxyType({})
Total = Callable[[Answers, dict[str, Assessed]], dict[str, np.ndarray]]


def weighted(
  judges: Judges,
  weights: Mapping[str, float],
  *,
  penalties: Mapping[str, float] = _NONE,
  costs: Mapping[str, float] = _NONE,
  scale: float = 1.0,
  where: str = "annotator",
) -> Judge:
  """A weighted sum of rewards, less a weighted sum of costs.

  reward = sum_k weights_k r_k - sum_k penalties_k c_k
  cost = sum_k costs_k c_k

  A penalty is the fixed multiplier of a constraint on the cost; `costs` are for
  algorithms that find the multiplier themselves. Without penalties, and if all
  judges of rewards give rewards of segments, so does the sum.

  Args:
    judges: judges by their names.
    weights: weights of the rewards, by judge.
    penalties: weights of the costs in the reward.
    costs: weights of the costs in the cost; {} for a judge without a cost.
    scale: inverse temperature of the preferences, > 0.
    where: config key, for errors.

  Raises:
    UserError: a weight is of no judge or isn't finite, the judge of a weight
      lacks what is weighed, or nothing is.
  """
  rewards = check_weights(weights, judges, f"{where}.weights")
  less = check_weights(penalties, judges, f"{where}.penalties")
  of_cost = check_weights(costs, judges, f"{where}.costs")
  if not rewards and not less:
    raise UserError("no reward is weighed.", where=f"{where}.weights")
  check_has({name: judges[name] for name in rewards}, "reward", where)
  check_has({name: judges[name] for name in (*less, *of_cost)}, "cost", where)
  used = {n: j for n, j in judges.items() if n in {*rewards, *less, *of_cost}}
  idle = [name for name in judges if name not in used]
  if idle:
    raise UserError(
      f"{', '.join(idle)} has no weight: it would be asked for nothing.",
      where=where,
      remedy="Leave the judge out, or weigh its reward or cost.",
    )

  def total(answers: Answers, told: dict[str, Assessed]) -> dict[str, Any]:
    reward = np.zeros(len(answers.texts))
    for name, weight in rewards.items():
      reward += weight * told[name].numbers("reward")
    for name, weight in less.items():
      reward -= weight * told[name].numbers("cost")
    numbers = {"reward": reward}
    if of_cost:
      terms = [w * told[name].numbers("cost") for name, w in of_cost.items()]
      numbers["cost"] = np.sum(terms, 0)
    return numbers

  one = _combined(used, total, scale, where, cost=bool(of_cost))
  if less:
    return one
  return one._replace(segments=weighted_segments(judges, rewards))


def all_good(
  judges: Judges,
  references: Mapping[str, Reference],
  *,
  scale: float = 1.0,
  where: str = "annotator",
) -> Judge:
  """log P(good in every respect): u = sum_k log sigmoid(r_k - ref_k(x)).

  Wang et al. 2024, "Transforming and Combining Rewards for Aligning Large
  Language Models", arXiv:2402.00742; see `losses.reward_transforms.all_good`.

  Args:
    judges: judges with rewards, by their names.
    references: ref_k by judge: a number, or a number for each prompt, for
      instance `references.quantiles` of the rewards of reference responses.
    scale: inverse temperature of the preferences, > 0.
    where: config key, for errors.

  Raises:
    UserError: a judge has no reward or no reference; when the judge is asked:
      a prompt has no reference.
  """
  check_has(judges, "reward", where)
  for name in judges:
    if name not in references:
      raise UserError(
        f"the judge {name!r} has no reference.",
        where=f"{where}.references",
        remedy="Give a number, or a file of numbers by prompt.",
      )
  check_weights(dict.fromkeys(references, 0.0), judges, f"{where}.references")

  def total(answers: Answers, told: dict[str, Assessed]) -> dict[str, Any]:
    terms = []
    for name, assessed in told.items():
      at = f"{where}.references.{name}"
      reference = reference_of(references[name], answers.prompts, at)
      margin = assessed.numbers("reward") - reference
      terms.append(np.minimum(margin, 0) - np.log1p(np.exp(-np.abs(margin))))
    return {"reward": np.sum(terms, 0)}

  return _combined(judges, total, scale, where)


def all_pass(
  judges: Judges,
  *,
  threshold: float = 1.0,
  scale: float = 1.0,
  where: str = "annotator",
) -> Judge:
  """1 for a response whose every reward reaches a threshold, else 0.

  Args:
    judges: judges with rewards, such as verifiers, by their names.
    threshold: least reward that passes.
    scale: inverse temperature of the preferences, > 0.
    where: config key, for errors.

  Raises:
    UserError: a judge has no reward.
  """
  check_has(judges, "reward", where)

  def total(answers: Answers, told: dict[str, Assessed]) -> dict[str, Any]:
    rewards = np.stack([x.numbers("reward") for x in told.values()])
    passed = (rewards >= threshold).all(0).astype(np.float64)
    return {"reward": np.where(np.isnan(rewards).any(0), np.nan, passed)}

  return _combined(judges, total, scale, where)


def mean(rewards: np.ndarray, k: float) -> np.ndarray:
  """[N] means of rewards [M, N]; `k` isn't read."""
  del k
  return rewards.mean(0)


def minimum(rewards: np.ndarray, k: float) -> np.ndarray:
  """[N] minima of rewards [M, N]: the most pessimistic judge; `k` isn't read.

  Worst-case optimisation of Coste et al. 2023, "Reward Model Ensembles Help
  Mitigate Overoptimization", arXiv:2310.02743.
  """
  del k
  return rewards.min(0)


def lower_bound(rewards: np.ndarray, k: float) -> np.ndarray:
  """[N] means less k standard deviations (ddof 1) of rewards [M, N].

  Our parametrisation; Coste et al. 2023 subtract a multiple of the variance.
  """
  return rewards.mean(0) - k * rewards.std(0, ddof=1)


ENSEMBLES = {"mean": mean, "minimum": minimum, "lower_bound": lower_bound}


def ensemble(
  judges: Judges,
  *,
  rule: str = "mean",
  k: float = 1.0,
  scale: float = 1.0,
  where: str = "annotator",
) -> Judge:
  """Several judges of the same thing as one.

  The judges' rewards should have one unit, as those of models that were trained
  alike and centred.

  Args:
    judges: two or more judges, by their names: all with rewards, or, for the
      rule "mean", all with preferences; judges with both are averaged in both.
    rule: a key of `ENSEMBLES`.
    k: number of standard deviations of the rule "lower_bound", >= 0.
    scale: inverse temperature of a reward's preferences, > 0.
    where: config key, for errors.

  Raises:
    UserError: the rule is unknown, there is one judge alone, or the judges lack
      what is combined.
  """
  if rule not in ENSEMBLES:
    raise UserError(
      f"{rule!r} is no rule of an ensemble.",
      where=f"{where}.rule",
      remedy=nearest(rule, ENSEMBLES),
    )
  if len(judges) < 2 or not 0 <= k < np.inf:
    raise UserError(
      f"{len(judges)} judges and k = {k:g} make no ensemble.",
      where=where,
      remedy="Give two judges or more, and k >= 0.",
    )
  preferring = all(j.preference is not None for j in judges.values())
  if rule != "mean" or not preferring:
    check_has(judges, "reward", where)
  rated = all(j.reward is not None for j in judges.values())

  def total(answers: Answers, told: dict[str, Assessed]) -> dict[str, Any]:
    rewards = np.stack([x.numbers("reward") for x in told.values()])
    return {"reward": ENSEMBLES[rule](rewards, k)}

  # A minimum of P(a > b) and of P(b > a) wouldn't sum to 1.
  of_two = mixture(judges, None, where=where) if preferring else None
  if not rated:
    assert of_two is not None
    return of_two
  one = _combined(judges, total, scale, where)
  if of_two is None or rule != "mean":
    return one
  return one._replace(preference=of_two.preference)


def mixture(
  judges: Judges,
  weights: Mapping[str, float] | None,
  *,
  where: str = "annotator",
) -> Judge:
  """The mean preference of a population of judges.

  P(a > b) = sum_k w_k P_k(a > b), which may be intransitive though each judge
  isn't, and needn't come from any reward.

  Args:
    judges: judges with rewards or preferences, by their names.
    weights: sizes of the groups, >= 0; they needn't sum to 1. None weighs all
      alike.
    where: config key, for errors.

  Raises:
    UserError: a judge compares nothing, or the weights aren't one for each.
  """
  of = whole(judges, where)
  check_has(judges, "preference", where)
  size = shares(weights, judges, f"{where}.weights")

  def preference(a: Answers, b: Answers) -> np.ndarray:
    terms = [size[n] * prefer(j, a, b, of) for n, j in judges.items()]
    return np.clip(np.sum(terms, 0), 0.0, 1.0)

  return of.judge(preference=preference)


def _combined(
  judges: Judges, total: Total, scale: float, where: str, cost: bool = False
) -> Judge:
  """Makes a judge of rewards from a total of judges' numbers."""
  of = whole(judges, where)

  def ask_all(answers: Answers) -> dict[str, np.ndarray]:
    told = {name: ask(judge, answers, of) for name, judge in judges.items()}
    numbers = total(answers, told)
    for name, assessed in told.items():
      if assessed.reward is not None:
        numbers[name] = assessed.numbers("reward")
      if assessed.cost is not None:
        numbers[f"{name} cost"] = assessed.numbers("cost")
      inner = assessed.parts.items()
      numbers |= {f"{name} {part}": values for part, values in inner}
    return numbers

  names: list[str] = []
  for name, judge in judges.items():
    names += [name] if judge.reward is not None else []
    names += [f"{name} cost"] if judge.cost is not None else []
    inner_names = judge.parts.names if judge.parts is not None else ()
    names += [f"{name} {part}" for part in inner_names]
  taken = [name for name in names if name in ("reward", "cost")]
  if taken or len({*names}) < len(names):
    raise UserError(
      f"the judges' numbers would be named {', '.join(names)}.",
      where=where,
      remedy='Name no judge "reward" or "cost", and no two numbers alike.',
    )
  return of.judge(
    reward=lambda answers: ask_all(answers)["reward"],
    cost=(lambda answers: ask_all(answers)["cost"]) if cost else None,
    scale=checked_scale(scale),
    parts=Parts(tuple(names), ask_all),
  )
