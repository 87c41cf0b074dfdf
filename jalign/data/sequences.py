"""Demonstrations become token ids: one sequence, some of it scored."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  prompt_ids,
  response_ids,
  response_room,
)
from jalign.data.schema import DemonstrationRecord
from jalign.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedSequence:
  """A sequence with its scored tokens, for likelihood losses.

  Attributes:
    ids: [n] int32, from the beginning of sequence to the end.
    mask: [n] bool, True on the tokens to learn from; mask[0] is False.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, response).
  """

  ids: np.ndarray
  mask: np.ndarray
  source: str
  cut: tuple[int, int] = (0, 0)


def encode_demonstration(
  record: DemonstrationRecord, tokenizer: Tokenizer, limits: Limits
) -> EncodedSequence:
  """Token ids of a prompt and its response, cut to the limits.

  Args:
    record: the demonstration.
    tokenizer: for prompt and response, each encoded by itself.
    limits: where to cut.

  Raises:
    UserError: the prompt has no token, or leaves no room for a response.
  """
  where = record.source
  prompt, prompt_cut = prompt_ids(
    record.prompt, tokenizer, limits.max_prompt_tokens, where
  )
  room = response_room(prompt, limits, where)
  response, response_cut = response_ids(record.response, tokenizer, room)
  ids = np.concatenate([prompt, response])
  return EncodedSequence(
    ids=ids,
    mask=np.arange(len(ids)) >= len(prompt),
    source=where,
    cut=(prompt_cut, response_cut),
  )


def encode_demonstrations(
  records: Iterable[DemonstrationRecord],
  tokenizer: Tokenizer,
  limits: Limits,
) -> tuple[list[EncodedSequence], Truncation]:
  """`encode_demonstration` of each record, and what was cut.

  Raises:
    UserError: as `encode_demonstration`.
  """
  found = [encode_demonstration(r, tokenizer, limits) for r in records]
  return found, Truncation(
    noun="demonstrations",
    count=len(found),
    parts={
      name: count_cuts(sequence.cut[i] for sequence in found)
      for i, name in enumerate(("prompts", "responses"))
    },
  )


def sequence_length(sequence: EncodedSequence) -> int:
  """Tokens of a sequence."""
  return len(sequence.ids)
