"""Pure functions that turn records of one kind into records of another.

The `Report` that comes back counts what can't be converted, under the place of
the record that it was part of. Records made from a part of another record add
the part to its place, "file:3#2-1", so that places stay different.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jalign.data.forum import by_votes
from jalign.data.judging import rewrites, verdicts
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

  Of several best responses the first is chosen, of several worst ones the last
  is rejected. A list whose scores are all equal is skipped as a tie, and a list
  whose best and worst response are the same text is skipped as identical.

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

  A list of K responses gives up to K (K - 1) / 2 pairs, so that longer lists
  weigh more.

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
  """Pairs of (list, index of the better response, index of the worse one)."""
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
  """Labels each response: desirable if its score is `threshold` or more.

  Raises:
    UserError: the threshold is NaN.
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
  """Two records per pair: chosen as desirable, rejected as not desirable."""
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
  """The chosen response of each pair, as a demonstration."""
  return [
    DemonstrationRecord(r.prompt, r.chosen, r.source, r.group, r.plain, r.end)
    for r in records
  ]


def best_demonstrations(
  records: Iterable[RankedRecord],
) -> list[DemonstrationRecord]:
  """The best response of each list, as a demonstration.

  Of several best responses it is the first.
  """
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


# Name in configs -> what turns the records of a source into records that a loss
# takes, with a report of what was left out.
CONVERSIONS: dict[str, Callable[[Any], tuple[list[Any], Report | None]]] = {
  "best_and_worst": best_and_worst,
  "all_ordered": all_ordered,
  # Lists whose scores are net upvotes; the pairs of different forum scores.
  "votes": lambda records: all_ordered(by_votes(records)),
  "chosen_demonstrations": lambda records: (
    chosen_demonstrations(records),
    None,
  ),
  "best_demonstrations": lambda records: (best_demonstrations(records), None),
  "label_by_side": lambda records: (label_by_side(records), None),
  "reward_augmented": reward_augmented,
  "verdicts": lambda records: (verdicts(records), None),
  "rewrites": lambda records: (rewrites(records), None),
}


def convert(
  name: str, records: Sequence[Any]
) -> tuple[list[Any], Report | None]:
  """Applies a conversion by its name.

  Args:
    name: a key of `CONVERSIONS`.
    records: records of the kind that the conversion takes.

  Returns:
    (records, report of what was left out); the report is None for conversions
    that leave nothing out.

  Raises:
    UserError: there is no such conversion, the conversion takes other records,
      or no record is left.
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
      remedy="best_and_worst, all_ordered, votes and best_demonstrations take"
      " ranked lists; chosen_demonstrations, label_by_side, reward_augmented,"
      " verdicts and rewrites take pairs.",
    ) from None
  if not converted:
    left_out = f" ({report.summary()})" if report else ""
    raise UserError(f"{name} leaves no record{left_out}.")
  return converted, report


def _report(used: int, skipped: Sequence[Skipped], noun: str) -> Report:
  return Report("", used + len(skipped), used, tuple(skipped), noun=noun)
