"""Turns pairs and prompts into token ids; `limits` says how a row is built."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jalign.data.fingerprint import LATER
from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  encode_texts,
  prompt_ids,
)
from jalign.data.schema import PreferenceRecord, Prompted
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError

# Fields that all of a file's pairs have, or none.
WHOLE = (
  "preference",
  "chosen_score",
  "rejected_score",
  "margin",
  "rater",
  "chosen_unsafe",
  "rejected_unsafe",
)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPair:
  """Token ids of a pair, as int32 arrays.

  Attributes:
    prompt: [n] ids, n > 0, with the tokens that begin the text.
    chosen: [n] ids, with the token that ends the response unless it was cut.
    rejected: [n] ids, like `chosen`.
    source: "file:line" of the record.
    preference: the record's, if it has one.
    chosen_score: the record's, if it has one.
    rejected_score: the record's, if it has one.
    cut: numbers of tokens dropped from (prompt, chosen, rejected).
    rater: the record's, if it has one.
    objectives: P(chosen > rejected) by the name of an objective: the record's
      `preferences`, and its `preference` (1 if it has none) under its
      `objective`.
    margin: the record's, if it has one.
    chosen_unsafe: the record's, if it has one.
    rejected_unsafe: the record's, if it has one.
  """

  prompt: np.ndarray
  chosen: np.ndarray
  rejected: np.ndarray
  source: str
  preference: float | None = None
  chosen_score: float | None = None
  rejected_score: float | None = None
  cut: tuple[int, ...] = (0, 0, 0)
  rater: str | None = dataclasses.field(default=None, metadata=LATER)
  objectives: Mapping[str, float] = dataclasses.field(
    default_factory=dict, metadata=LATER
  )
  margin: float | None = dataclasses.field(default=None, metadata=LATER)
  chosen_unsafe: bool | None = dataclasses.field(default=None, metadata=LATER)
  rejected_unsafe: bool | None = dataclasses.field(default=None, metadata=LATER)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedPrompt:
  """A prompt to generate from.

  Attributes:
    ids: [n] int32 with the beginning of sequence, n > 0; cut to the limit.
    text: the whole prompt, as annotators and measures see it: without a goal
      that a conversion wrote into it.
    source: "file:line" of the record.
    written: the whole prompt as the model reads it.
  """

  ids: np.ndarray
  text: str
  source: str
  written: str


def encode_prompts(
  records: Iterable[Prompted],
  tokenizer: Tokenizer,
  max_prompt_tokens: int | None = None,
) -> list[EncodedPrompt]:
  """Encodes the records' prompts.

  Args:
    records: records of any kind that has a prompt.
    tokenizer: encodes the prompts as in `limits.prompt_ids`.
    max_prompt_tokens: longer prompts lose their oldest tokens; None keeps all.

  Raises:
    UserError: a prompt has no token.
  """
  return [
    EncodedPrompt(
      prompt_ids(record, tokenizer, max_prompt_tokens)[0],
      record.plain or record.prompt,
      record.source,
      record.prompt,
    )
    for record in records
  ]


def encode_pair(
  record: PreferenceRecord, tokenizer: Tokenizer, limits: Limits
) -> EncodedPair:
  """Encodes a pair, cut to the limits.

  Args:
    record: the pair.
    tokenizer: encodes the prompt and the responses.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  return _encode(record, tokenizer, limits)[0]


def _encode(
  record: PreferenceRecord, tokenizer: Tokenizer, limits: Limits
) -> tuple[EncodedPair, int]:
  """(encoded pair, `limits.Encoded.joined` of it)."""
  responses = (record.chosen, record.rejected)
  encoded = encode_texts(record, responses, tokenizer, limits)
  chosen, rejected = encoded.responses
  pair = EncodedPair(
    prompt=encoded.prompt,
    chosen=chosen,
    rejected=rejected,
    source=record.source,
    preference=record.preference,
    chosen_score=record.chosen_score,
    rejected_score=record.rejected_score,
    cut=encoded.cut,
    rater=record.rater,
    objectives=objectives_of(record),
    margin=record.margin,
    chosen_unsafe=record.chosen_unsafe,
    rejected_unsafe=record.rejected_unsafe,
  )
  return pair, encoded.joined


def objectives_of(record: PreferenceRecord) -> dict[str, float]:
  """`EncodedPair.objectives` of a record.

  Raises:
    UserError: `preferences` has another number for the record's objective.
  """
  objectives = dict(record.preferences)
  if record.objective is not None:
    named = 1.0 if record.preference is None else record.preference
    if objectives.setdefault(record.objective, named) != named:
      raise UserError(
        f"the preference under {record.objective!r} is {named} and, in"
        f" 'preferences', {objectives[record.objective]}.",
        where=record.source,
        remedy="Give the number in one place.",
      )
  return objectives


def encode_pairs(
  records: Iterable[PreferenceRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedPair], Truncation]:
  """Encodes each pair with `encode_pair`.

  Returns:
    (encoded pairs, what was cut from them).

  Raises:
    UserError: as in `encode_pair`; or only some of the records have a
      preference, a score, a margin, a rater or labels of safety, which a loss
      uses for all records or for none.
  """
  records = list(records)
  for field in WHOLE:
    all_or_none(records, field)
  encoded = [_encode(record, tokenizer, limits) for record in records]
  pairs = [pair for pair, _ in encoded]
  return pairs, Truncation(
    noun="pairs",
    count=len(pairs),
    parts={
      name: count_cuts(pair.cut[i] for pair in pairs)
      for i, name in enumerate(("prompts", "chosen", "rejected"))
    },
    identical=sum(np.array_equal(p.chosen, p.rejected) for p in pairs),
    joined=sum(joined for _, joined in encoded),
  )


def pair_length(pair: EncodedPair) -> int:
  """Tokens of the longer of a pair's two rows."""
  return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def chosen_length(pair: EncodedPair) -> int:
  """Tokens of the prompt with the chosen response."""
  return len(pair.prompt) + len(pair.chosen)


def prompt_length(prompt: EncodedPrompt) -> int:
  """Tokens of a prompt."""
  return len(prompt.ids)


def all_or_none(records: Sequence[Any], field: str) -> np.ndarray | None:
  """The values of a field, [n]; None if no record has the field.

  Returns:
    float32 for numbers and truth values, texts for names.

  Raises:
    UserError: only some of the records have the field.
  """
  values = [getattr(record, field) for record in records]
  missing = [r.source for r, v in zip(records, values) if v is None]
  if len(missing) == len(values):
    return None
  if missing:
    raise UserError(
      f"the record has no {field!r}, though {len(values) - len(missing)} of "
      f"{len(values)} records have one.",
      where=missing[0],
      remedy="Give it for all records or for none.",
    )
  named = isinstance(values[0], str)
  return np.array(values, None if named else np.float32)
