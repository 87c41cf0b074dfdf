"""Records of one kind become records of another; pure functions.

What can't be converted is counted in the `Report` that comes back, by the
record that it was part of. Records made from a part of another add the part to
its place, "file:3#2-1", so that places stay different.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jalign.data.relabel import reward_augmented
from jalign.data.schema import (
  BinaryRecord,
  DemonstrationRecord,
  PreferenceRecord,
  RankedRecord,
  Report,
  Skipped,
)
from jalign.errors import UserError, nearest


def best_and_worst(
  records: Iterable[RankedRecord],
) -> tuple[list[PreferenceRecord], Report]:
  """A pair from each list: its best response against its worst.

  The first of the best and the last of the worst. A list whose scores are all
  equal is skipped as a tie, and one whose two responses are equal texts as
  identical.

  Returns:
    (pairs with their scores, report over the lists).
  """
  return _pairs(
    (
      record,
      record.scores.index(max(record.scores)),
      len(record.scores) - 1 - record.scores[::-1].index(min(record.scores)),
    )
    for record in records
  )


def all_ordered(
  records: Iterable[RankedRecord],
) -> tuple[list[PreferenceRecord], Report]:
  """Every pair of a list's responses whose scores differ; ties are skipped.

  A list of K gives up to K (K - 1) / 2 pairs: lists of different lengths then
  weigh differently.

  Returns:
    (pairs with their scores, report over the candidate pairs).
  """

  def candidates():
    for record in records:
      for i, j in itertools.combinations(range(len(record.scores)), 2):
        higher_first = record.scores[i] >= record.scores[j]
        yield (record, i, j) if higher_first else (record, j, i)

  return _pairs(candidates())


def _pairs(
  candidates: Iterable[tuple[RankedRecord, int, int]],
) -> tuple[list[PreferenceRecord], Report]:
  """Pairs of (list, number of the better, number of the worse)."""
  pairs: list[PreferenceRecord] = []
  skipped: list[Skipped] = []
  for record, i, j in candidates:
    where = f"{record.source}#{i + 1}-{j + 1}"
    if record.scores[i] == record.scores[j]:
      skipped.append(Skipped(where, "tie"))
    elif record.responses[i] == record.responses[j]:
      skipped.append(Skipped(where, "identical"))
    else:
      pairs.append(
        PreferenceRecord(
          prompt=record.prompt,
          chosen=record.responses[i],
          rejected=record.responses[j],
          source=where,
          group=record.group,
          plain=record.plain,
          end=record.end,
          chosen_score=record.scores[i],
          rejected_score=record.scores[j],
        )
      )
  return pairs, _report(len(pairs), skipped, "pairs")


def label_by_score(
  records: Iterable[RankedRecord], threshold: float
) -> list[BinaryRecord]:
  """Every response by itself, desirable if its score is `threshold` or more.

  Raises:
    UserError: the threshold is not a number.
  """
  if threshold != threshold:
    raise UserError("threshold is nan.", remedy="Give a number.")
  return [
    BinaryRecord(
      prompt=record.prompt,
      response=response,
      desirable=score >= threshold,
      source=f"{record.source}#{number}",
      group=record.group,
      plain=record.plain,
      end=record.end,
    )
    for record in records
    for number, (response, score) in enumerate(
      zip(record.responses, record.scores), 1
    )
  ]


def label_by_side(records: Iterable[PreferenceRecord]) -> list[BinaryRecord]:
  """Two of each pair: the chosen response, desirable, and the rejected one."""
  return [
    BinaryRecord(
      record.prompt,
      response,
      desirable,
      f"{record.source}#{side}",
      record.group,
      record.plain,
      record.end,
    )
    for record in records
    for side, response, desirable in (
      ("chosen", record.chosen, True),
      ("rejected", record.rejected, False),
    )
  ]


def chosen_demonstrations(
  records: Iterable[PreferenceRecord],
) -> list[DemonstrationRecord]:
  """The chosen response of each pair."""
  return [
    DemonstrationRecord(r.prompt, r.chosen, r.source, r.group, r.plain, r.end)
    for r in records
  ]


def best_demonstrations(
  records: Iterable[RankedRecord],
) -> list[DemonstrationRecord]:
  """The best response of each list; the first of the best, where they tie."""
  return [
    DemonstrationRecord(
      r.prompt,
      r.responses[r.scores.index(max(r.scores))],
      r.source,
      r.group,
      r.plain,
      r.end,
    )
    for r in records
  ]


# What turns the records of a source into those that a loss takes.
CONVERSIONS: dict[str, Callable[[Any], tuple[list[Any], Report | None]]] = {
  "best_and_worst": best_and_worst,
  "all_ordered": all_ordered,
  "chosen_demonstrations": lambda records: (
    chosen_demonstrations(records),
    None,
  ),
  "best_demonstrations": lambda records: (best_demonstrations(records), None),
  "reward_augmented": reward_augmented,
}


def convert(
  name: str, records: Sequence[Any]
) -> tuple[list[Any], Report | None]:
  """Applies a conversion by its name.

  Args:
    name: a key of `CONVERSIONS`.
    records: of the kind that it takes.

  Returns:
    (records, report of what was left out; None where nothing can be).

  Raises:
    UserError: there is no such conversion, it takes other records, or nothing
      is left.
  """
  if name not in CONVERSIONS:
    raise UserError(
      f"there is no conversion {name!r}.",
      remedy=nearest(name, CONVERSIONS),
    )
  try:
    converted, report = CONVERSIONS[name](records)
  except AttributeError:
    raise UserError(
      f"{name!r} doesn't take {type(records[0]).__name__}s.",
      remedy="best_and_worst, all_ordered and best_demonstrations take ranked"
      " lists, chosen_demonstrations and reward_augmented take pairs.",
    ) from None
  if not converted:
    left_out = f" ({report.summary()})" if report else ""
    raise UserError(f"{name} leaves no record{left_out}.")
  return converted, report


def _report(used: int, skipped: Sequence[Skipped], noun: str) -> Report:
  return Report("", used + len(skipped), used, tuple(skipped), noun=noun)
