"""Ranked lists and labelled responses become token ids."""

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
from jalign.data.schema import BinaryRecord, RankedRecord
from jalign.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedList:
  """Token ids of a list; int32 arrays.

  Attributes:
    prompt: [n] ids with the beginning of sequence, n > 0.
    responses: one [n] each, with the end of sequence, unless cut.
    scores: [K] float32, higher is better.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, first response, second ...).
  """

  prompt: np.ndarray
  responses: tuple[np.ndarray, ...]
  scores: np.ndarray
  source: str
  cut: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBinary:
  """Token ids of a labelled response; int32 arrays.

  Attributes:
    prompt: [n] ids with the beginning of sequence, n > 0.
    response: [n] ids with the end of sequence, unless cut.
    desirable: the label.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, response).
  """

  prompt: np.ndarray
  response: np.ndarray
  desirable: bool
  source: str
  cut: tuple[int, int] = (0, 0)


def encode_lists(
  records: Iterable[RankedRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedList], Truncation]:
  """Token ids of ranked lists, cut to the limits, and what was cut.

  Args:
    records: the lists.
    tokenizer: for prompts and responses, each encoded by itself.
    limits: where to cut.

  Raises:
    UserError: a prompt has no token, or leaves no room for a response.
  """
  lists = []
  for record in records:
    prompt, prompt_cut, room = _prompt(record, tokenizer, limits)
    found = [response_ids(r, tokenizer, room) for r in record.responses]
    lists.append(
      EncodedList(
        prompt=prompt,
        responses=tuple(ids for ids, _ in found),
        scores=np.array(record.scores, np.float32),
        source=record.source,
        cut=(prompt_cut, *(cut for _, cut in found)),
      )
    )
  return lists, Truncation(
    noun="lists",
    count=len(lists),
    parts={
      "prompts": count_cuts(one.cut[0] for one in lists),
      "responses": count_cuts(n for one in lists for n in one.cut[1:]),
    },
    identical=sum(_all_equal(one) for one in lists),
  )


def encode_binary(
  records: Iterable[BinaryRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedBinary], Truncation]:
  """Token ids of labelled responses; arguments and errors as `encode_lists`."""
  found = []
  for record in records:
    prompt, prompt_cut, room = _prompt(record, tokenizer, limits)
    response, cut = response_ids(record.response, tokenizer, room)
    found.append(
      EncodedBinary(
        prompt=prompt,
        response=response,
        desirable=record.desirable,
        source=record.source,
        cut=(prompt_cut, cut),
      )
    )
  return found, Truncation(
    noun="responses",
    count=len(found),
    parts={
      name: count_cuts(one.cut[i] for one in found)
      for i, name in enumerate(("prompts", "responses"))
    },
  )


def list_length(encoded: EncodedList) -> int:
  """Tokens of the longest row of a list."""
  return len(encoded.prompt) + max(map(len, encoded.responses))


def list_size(encoded: Iterable[EncodedList]) -> int:
  """Responses of the longest list: K of their batches."""
  return max(len(one.responses) for one in encoded)


def binary_length(encoded: EncodedBinary) -> int:
  """Tokens of the prompt with its response."""
  return len(encoded.prompt) + len(encoded.response)


def _prompt(
  record: RankedRecord | BinaryRecord, tokenizer: Tokenizer, limits: Limits
) -> tuple[np.ndarray, int, int]:
  """(ids, tokens dropped, room for a response)."""
  ids, cut = prompt_ids(
    record.prompt, tokenizer, limits.max_prompt_tokens, record.source
  )
  return ids, cut, response_room(ids, limits, record.source)


def _all_equal(encoded: EncodedList) -> bool:
  first = encoded.responses[0]
  return all(np.array_equal(first, other) for other in encoded.responses)
