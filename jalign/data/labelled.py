"""Ranked lists and labelled responses become token ids."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  encode_texts,
)
from jalign.data.schema import BinaryRecord, RankedRecord
from jalign.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedList:
  """Token ids of a list; int32 arrays.

  Attributes:
    prompt: [n] ids with what begins the text, n > 0.
    responses: one [n] each, with the end that closes it, unless cut.
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
    prompt: [n] ids with what begins the text, n > 0.
    response: [n] ids with the end that closes it, unless cut.
    desirable: the label.
    source: "file:line" of the record.
    cut: tokens dropped from (prompt, response).
  """

  prompt: np.ndarray
  response: np.ndarray
  desirable: bool
  source: str
  cut: tuple[int, ...] = (0, 0)


def encode_lists(
  records: Iterable[RankedRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedList], Truncation]:
  """Token ids of ranked lists, cut to the limits, and what was cut.

  Args:
    records: the lists.
    tokenizer: for prompts and responses.
    limits: where to cut.

  Raises:
    UserError: a prompt has no token, or leaves no room for a response.
  """
  lists, joined = [], 0
  for record in records:
    encoded = encode_texts(record, record.responses, tokenizer, limits)
    joined += encoded.joined
    lists.append(
      EncodedList(
        prompt=encoded.prompt,
        responses=encoded.responses,
        scores=np.array(record.scores, np.float32),
        source=record.source,
        cut=encoded.cut,
      )
    )
  return lists, Truncation(
    noun="lists",
    count=len(lists),
    parts={
      "prompts": count_cuts(encoded.cut[0] for encoded in lists),
      "responses": count_cuts(n for encoded in lists for n in encoded.cut[1:]),
    },
    identical=sum(_all_equal(encoded) for encoded in lists),
    joined=joined,
  )


def encode_binary(
  records: Iterable[BinaryRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedBinary], Truncation]:
  """Token ids of labelled responses; arguments and errors as `encode_lists`."""
  responses, joined = [], 0
  for record in records:
    encoded = encode_texts(record, (record.response,), tokenizer, limits)
    joined += encoded.joined
    responses.append(
      EncodedBinary(
        prompt=encoded.prompt,
        response=encoded.responses[0],
        desirable=record.desirable,
        source=record.source,
        cut=encoded.cut,
      )
    )
  return responses, Truncation(
    noun="responses",
    count=len(responses),
    parts={
      name: count_cuts(encoded.cut[i] for encoded in responses)
      for i, name in enumerate(("prompts", "responses"))
    },
    joined=joined,
  )


def list_length(encoded: EncodedList) -> int:
  """Tokens of the longest row of a list."""
  return len(encoded.prompt) + max(map(len, encoded.responses))


def list_size(encoded: Iterable[EncodedList]) -> int:
  """Responses of the longest list: K of their batches."""
  return max(len(ranked.responses) for ranked in encoded)


def binary_length(encoded: EncodedBinary) -> int:
  """Tokens of the prompt with its response."""
  return len(encoded.prompt) + len(encoded.response)


def _all_equal(encoded: EncodedList) -> bool:
  first = encoded.responses[0]
  return all(np.array_equal(first, other) for other in encoded.responses)
