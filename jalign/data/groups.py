"""Splits records so that a prompt's records stay together; unique prompts."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from jalign.data.schema import (
  BinaryRecord,
  ContextRecord,
  ConversationRecord,
  CritiqueRecord,
  DemonstrationRecord,
  PreferenceRecord,
  Prompted,
  PromptRecord,
  RankedRecord,
  RatingRecord,
)
from jalign.errors import UserError

Record = TypeVar(
  "Record",
  PreferenceRecord,
  PromptRecord,
  DemonstrationRecord,
  ContextRecord,
  CritiqueRecord,
  ConversationRecord,
  BinaryRecord,
  RankedRecord,
  RatingRecord,
)


def unique_prompts(records: Iterable[Prompted]) -> list[PromptRecord]:
  """The different prompts of the records, in order of first appearance."""
  prompts: dict[str, PromptRecord] = {}
  for row in records:
    prompts.setdefault(
      row.prompt,
      PromptRecord(row.prompt, row.source, row.group, row.plain, row.end),
    )
  return list(prompts.values())


def split(
  records: Sequence[Record], eval_fraction: float, seed: int
) -> tuple[list[Record], list[Record]]:
  """Splits records by group into training and evaluation parts.

  A group goes to evaluation if the hash of (seed, group) falls below
  `eval_fraction`. So the part that a record goes to depends on nothing but its
  group, the fraction and the seed: not on the order, nor on the other records;
  and the evaluation part of a smaller fraction is a subset of a larger one's.

  Args:
    records: anything with a `group`.
    eval_fraction: expected share of the groups, in (0, 1).
    seed: any integer.

  Returns:
    (train, evaluation), each in the given order.

  Raises:
    UserError: the fraction is out of range, or one of the parts is empty.
  """
  if not 0 < eval_fraction < 1:
    raise UserError(
      f"eval_fraction is {eval_fraction}.",
      remedy="Give a number above 0 and below 1.",
    )
  parts: tuple[list[Record], list[Record]] = ([], [])
  for record in records:
    parts[_uniform(seed, record.group) < eval_fraction].append(record)
  for part, name in zip(parts, ("training", "evaluation")):
    if not part:
      groups = len({record.group for record in records})
      raise UserError(
        f"the {name} part of the split is empty: {len(records)} records in "
        f"{groups} groups, eval_fraction {eval_fraction}, seed {seed}.",
        remedy="Give more data, another fraction or another seed; records "
        "with the same prompt (or first human turn) always stay together.",
      )
  return parts


def _uniform(seed: int, group: str) -> float:
  """A number in [0, 1) that depends on seed and group alone."""
  digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
  return int.from_bytes(digest[:8], "big") / 2**64
