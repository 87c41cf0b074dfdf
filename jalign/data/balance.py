"""How labels, scores and lengths are distributed, which a loss may pick up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.schema import (
  BinaryRecord,
  PreferenceRecord,
  RankedRecord,
  RatingRecord,
)


class Spread(NamedTuple):
  """The distribution of some numbers; `p95` is their 95th percentile."""

  least: float
  median: float
  p95: float
  most: float


Statistics = dict[str, int | float | Spread]


def balance(records: Sequence[Any]) -> Statistics:
  """Statistics of the records' labels and scores.

  Args:
    records: one or more, all of one kind.

  Returns:
    Name -> a share in [0, 1], a `Spread`, or a number of things as an int; {}
    for kinds without labels. A share is of all records or, where its name ends
    in "of those", of the records that the share before it counts.
  """
  kind = type(records[0])
  if kind is BinaryRecord:
    return {"desirable": _share(r.desirable for r in records)}
  if kind is RankedRecord:
    ties = [len(set(r.scores)) < len(r.scores) for r in records]
    return {
      "responses a list": spread([len(r.scores) for r in records]),
      "scores": spread([s for r in records for s in r.scores]),
      "lists with a tie": _share(ties),
      "lists all of one score": _share(
        len(set(r.scores)) == 1 for r in records
      ),
    }
  if kind is RatingRecord:
    return _ratings(records)
  if kind is not PreferenceRecord:
    return {}
  shares: Statistics = {
    "chosen is longer": _share(
      len(r.chosen) > len(r.rejected) for r in records
    ),
    "of equal length": _share(
      len(r.chosen) == len(r.rejected) for r in records
    ),
  }
  margins = [
    r.chosen_score - r.rejected_score
    for r in records
    if r.chosen_score is not None and r.rejected_score is not None
  ]
  if margins:
    shares["with both scores"] = len(margins) / len(records)
    shares["score margins"] = spread(margins)
    shares["scores tie, of those"] = _share(m == 0 for m in margins)
    shares["rejected scores higher, of those"] = _share(m < 0 for m in margins)
  preferences = [r.preference for r in records if r.preference is not None]
  if preferences:
    shares["with a preference"] = len(preferences) / len(records)
    shares["preferences"] = spread(preferences)
    shares["below one half, of those"] = _share(p < 0.5 for p in preferences)
  return shares | _labels(records)


def _labels(records: Sequence[PreferenceRecord]) -> Statistics:
  """What pairs say beside the preference."""
  shares: Statistics = {}
  for field in ("rater", "objective"):
    named = Counter(
      value for r in records if (value := getattr(r, field)) is not None
    )
    if named:
      shares[f"with {_article(field)} {field}"] = _share(
        getattr(r, field) is not None for r in records
      )
      shares[f"different {field}s"] = len(named)
      shares[f"pairs of one {field}"] = spread(list(named.values()))
  votes: dict[str, list[float]] = {}
  for r in records:
    for name, value in r.preferences.items():
      votes.setdefault(name, []).append(value)
  for name, values in sorted(votes.items()):
    shares[f"preferred on {name}"] = float(np.mean(values))
    shares[f"compared on {name}"] = len(values) / len(records)
  margins = [r.margin for r in records if r.margin is not None]
  if margins:
    shares["margins"] = spread(margins)
  for side in ("chosen", "rejected"):
    labels = [getattr(r, f"{side}_unsafe") for r in records]
    known = [label for label in labels if label is not None]
    if known:
      shares[f"{side} is unsafe"] = _share(known)
  return shares


def _ratings(records: Sequence[RatingRecord]) -> Statistics:
  found: dict[str, list[float]] = {}
  for r in records:
    for name, value in r.ratings.items():
      found.setdefault(name, []).append(value)
  shares: Statistics = {}
  for name, values in sorted(found.items()):
    constant = " (constant, and so without use)" * (len(set(values)) == 1)
    shares[f"{name}{constant}"] = spread(values)
    shares[f"rated on {name}"] = len(values) / len(records)
  return shares


def _article(noun: str) -> str:
  return "an" if noun[0] in "aeiou" else "a"


def _share(values: Iterable[bool]) -> float:
  return float(np.mean(list(values)))


def spread(values: Sequence[float]) -> Spread:
  """The distribution of one or more numbers."""
  quantiles = np.percentile(np.asarray(values, np.float64), [0, 50, 95, 100])
  return Spread(*quantiles.tolist())
