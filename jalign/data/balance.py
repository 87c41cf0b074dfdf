"""How labels, scores and lengths are distributed, which a loss may pick up."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.schema import BinaryRecord, PreferenceRecord, RankedRecord


class Spread(NamedTuple):
  """The distribution of some numbers; `p95` is their 95th percentile."""

  least: float
  median: float
  p95: float
  most: float


def balance(records: Sequence[Any]) -> dict[str, float | Spread]:
  """Statistics of the records' labels and scores.

  Args:
    records: one or more, all of one kind.

  Returns:
    Name -> a share in [0, 1], or a `Spread`; {} for kinds without labels. A
    share is of all records or, where its name ends in "of those", of the
    records that the share before it counts.
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
  if kind is not PreferenceRecord:
    return {}
  shares: dict[str, float | Spread] = {
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
  return shares


def _share(values: Iterable[bool]) -> float:
  return float(np.mean(list(values)))


def spread(values: Sequence[float]) -> Spread:
  """The distribution of one or more numbers."""
  quantiles = np.percentile(np.asarray(values, np.float64), [0, 50, 95, 100])
  return Spread(*quantiles.tolist())
