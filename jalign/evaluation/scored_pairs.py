"""Labelled pairs of responses, with the numbers of whoever scores them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.evaluation.clustered import take

Ids = Sequence[Any] | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredPairs:
  """N labelled pairs, with the numbers of a reward or preference model.

  `from_scores`, `from_probabilities` and `from_lists` make checked records.

  Attributes:
    margins: [N] log-odds, by the scorer, that the chosen response is preferred:
      a difference of scores, or the logit of a preference model; may be
      infinite.
    labels: [N] P(the chosen response is preferred) of the labels; 1 where a
      label is certain.
    chosen: [N] scores of chosen responses; None where pairs are compared
      without scores.
    rejected: [N] scores of rejected responses, or None.
    exact: [N] the true P(the chosen response is preferred), where whoever gave
      the labels is known exactly; else None.
    chosen_tokens: [N] lengths of chosen responses; None if unknown.
    rejected_tokens: [N] lengths of rejected responses; None if unknown.
    groups: N hashable ids of the pairs' prompts, by which errors cluster; None
      for N different prompts.
    raters: N names of the labels' raters, or of groups of raters; or None.
    sources: N places that the pairs come from; () if unknown.
    missing: number of pairs that the scorer gave no answer about, which are
      left out of all arrays.
  """

  margins: np.ndarray
  labels: np.ndarray
  chosen: np.ndarray | None = None
  rejected: np.ndarray | None = None
  exact: np.ndarray | None = None
  chosen_tokens: np.ndarray | None = None
  rejected_tokens: np.ndarray | None = None
  groups: Ids | None = None
  raters: Ids | None = None
  sources: Sequence[str] = ()
  missing: int = 0

  def __len__(self) -> int:
    return len(self.margins)

  def take(self, at: Sequence[int] | np.ndarray) -> "ScoredPairs":
    """The pairs at some indices."""
    at = np.asarray(at, int)
    told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    for name in ("groups", "raters"):
      told[name] = take(told[name], at)
    for name, values in told.items():
      if isinstance(values, np.ndarray):
        told[name] = values[at]
    if self.sources:
      told["sources"] = tuple(self.sources[i] for i in at)
    return ScoredPairs(**told)

  @property
  def longer(self) -> np.ndarray | None:
    """[N] tokens that the chosen response is longer by; None if unknown."""
    if self.chosen_tokens is None or self.rejected_tokens is None:
      return None
    return self.chosen_tokens - self.rejected_tokens


def from_scores(
  chosen: ArrayLike,
  rejected: ArrayLike,
  *,
  scale: float = 1.0,
  labels: ArrayLike | None = None,
  exact: ArrayLike | None = None,
  chosen_tokens: ArrayLike | None = None,
  rejected_tokens: ArrayLike | None = None,
  groups: Ids | None = None,
  raters: Ids | None = None,
) -> ScoredPairs:
  """Pairs that a reward model has scored.

  Args:
    chosen: [N] finite scores of chosen responses.
    rejected: [N] finite scores of rejected responses.
    scale: factor on a difference of scores that makes it log-odds.
    labels: see `ScoredPairs`; None where all labels are certain.
    exact: see `ScoredPairs`.
    chosen_tokens: see `ScoredPairs`.
    rejected_tokens: see `ScoredPairs`.
    groups: see `ScoredPairs`.
    raters: see `ScoredPairs`.

  Raises:
    UserError: scores aren't finite, a probability lies outside [0, 1], numbers
      of pairs differ, or there are no pairs.
  """
  first, second = (
    _numbers(name, x)
    for name, x in (("chosen", chosen), ("rejected", rejected))
  )
  for name, x in (("chosen", first), ("rejected", second)):
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
      raise UserError(
        f"the scores of {bad.size:,} of {x.size:,} {name} responses aren't"
        f" finite; the first is {x[bad[0]]}.",
        where=f"{name}[{bad[0]}]",
      )
  if first.shape != second.shape:
    raise UserError(
      f"there are {first.size} scores of chosen responses and {second.size} of"
      " rejected responses.",
      where="rejected",
    )
  return _checked(
    scale * (first - second),
    first,
    second,
    labels=labels,
    exact=exact,
    chosen_tokens=chosen_tokens,
    rejected_tokens=rejected_tokens,
    groups=groups,
    raters=raters,
  )


def from_probabilities(preference: ArrayLike, **known: Any) -> ScoredPairs:
  """Pairs that a preference model, or a judge, has compared.

  Args:
    preference: [N] P(the chosen response is preferred) by the scorer, in
      [0, 1]; NaN for no answer, and such pairs are left out and counted. A
      wrong answer that is given with certainty has an infinite NLL.
    **known: labels, exact, chosen_tokens, rejected_tokens, groups and raters,
      as in `from_scores`.

  Raises:
    UserError: as in `from_scores`.
  """
  p = _numbers("preference", preference)
  answered = np.flatnonzero(~np.isnan(p))
  if p.size and not answered.size:
    raise UserError(
      f"the scorer answered about none of {p.size:,} pairs.", where="preference"
    )
  _probabilities("preference", np.where(np.isnan(p), 0.5, p))
  with np.errstate(divide="ignore"):
    margins = np.log(p) - np.log1p(-p)
  # Everything else is checked at its whole length, before pairs are left out.
  whole = _checked(np.where(np.isnan(p), 0.0, margins), None, None, **known)
  kept = whole.take(answered)
  return dataclasses.replace(kept, missing=p.size - answered.size)


def from_margins(margins: ArrayLike, **known: Any) -> ScoredPairs:
  """Pairs of which a scorer gives the log-odds alone.

  Args:
    margins: [N] log-odds that the chosen response is preferred, such as beta
      times a difference of log-ratios, or a preference model's logits.
    **known: labels, exact, chosen_tokens, rejected_tokens, groups and raters,
      as in `from_scores`.

  Raises:
    UserError: as in `from_scores`.
  """
  return _checked(_numbers("margins", margins), None, None, **known)


def from_lists(
  scores: Sequence[ArrayLike],
  ranks: Sequence[ArrayLike],
  *,
  scale: float = 1.0,
  tokens: Sequence[ArrayLike] | None = None,
  groups: Ids | None = None,
) -> ScoredPairs:
  """All pairs of ranked lists whose ranks differ.

  Args:
    scores: N lists of K scores; K may differ.
    ranks: N lists of K ranks, of which the smallest is the best.
    scale: factor on a difference of scores that makes it log-odds.
    tokens: N lists of K lengths; None if unknown.
    groups: N hashable ids of prompts; None for N different prompts. The pairs
      of a list share an id.

  Raises:
    UserError: lists differ in length, a score isn't finite, or no two ranks
      differ.
  """
  sides: dict[str, list[Any]] = {
    name: []
    for name in (
      "chosen",
      "rejected",
      "chosen_tokens",
      "rejected_tokens",
      "group",
    )
  }
  for i, (given, order) in enumerate(zip(scores, ranks, strict=True)):
    x, rank = _numbers(f"scores[{i}]", given), _numbers(f"ranks[{i}]", order)
    if x.shape != rank.shape:
      raise UserError(
        f"a list has {x.size} scores and {rank.size} ranks.", where=f"list {i}"
      )
    better, worse = np.nonzero(rank[:, None] < rank[None, :])
    sides["chosen"].append(x[better])
    sides["rejected"].append(x[worse])
    if tokens is not None:
      lengths = _numbers(f"tokens[{i}]", tokens[i])
      sides["chosen_tokens"].append(lengths[better])
      sides["rejected_tokens"].append(lengths[worse])
    sides["group"] += [i if groups is None else groups[i]] * better.size
  joined = lambda name: np.concatenate([np.zeros(0), *sides[name]])
  return from_scores(
    joined("chosen"),
    joined("rejected"),
    scale=scale,
    chosen_tokens=None if tokens is None else joined("chosen_tokens"),
    rejected_tokens=None if tokens is None else joined("rejected_tokens"),
    groups=sides["group"],
  )


def _checked(
  margins: np.ndarray,
  chosen: np.ndarray | None,
  rejected: np.ndarray | None,
  *,
  labels: ArrayLike | None = None,
  exact: ArrayLike | None = None,
  chosen_tokens: ArrayLike | None = None,
  rejected_tokens: ArrayLike | None = None,
  groups: Ids | None = None,
  raters: Ids | None = None,
) -> ScoredPairs:
  if not margins.size:
    raise UserError("there are no labelled pairs.", where="pairs")
  if np.isnan(margins).any():
    bad = np.isnan(margins)
    at = int(np.argmax(bad))
    raise UserError(
      f"{bad.sum():,} of {margins.size:,} margins aren't numbers.",
      where=f"margins[{at}]",
    )
  told: dict[str, Any] = {"groups": groups, "raters": raters}
  told["labels"] = np.ones(margins.size) if labels is None else labels
  told |= {"exact": exact}
  told |= {"chosen_tokens": chosen_tokens, "rejected_tokens": rejected_tokens}
  for name, values in told.items():
    if values is None:
      continue
    if name not in ("groups", "raters"):
      told[name] = _numbers(name, values)
    if len(values) != margins.size:
      raise UserError(
        f"there are {len(values)} {name.replace('_', ' ')} for"
        f" {margins.size} pairs.",
        where=name,
      )
    if name in ("labels", "exact"):
      _probabilities(name, told[name])
  return ScoredPairs(margins, chosen=chosen, rejected=rejected, **told)


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
  array = np.asarray(values, np.float64)
  if array.ndim != 1:
    raise UserError(f"has shape {array.shape}, not [N].", where=name)
  return array


def _probabilities(name: str, p: np.ndarray) -> np.ndarray:
  inside = (p >= 0) & (p <= 1)  # NaN is outside, too
  if not inside.all():
    at = int(np.argmin(inside))
    raise UserError(f"{p[at]} is not a probability.", where=f"{name}[{at}]")
  return p
