"""Turns ranked lists and labelled responses into token ids."""

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
  """Token ids of a ranked list, as int32 arrays.

  Attributes:
    prompt: [n] ids, n > 0, with the tokens that begin the text.
    responses: K arrays of ids [n], each with the token that ends the response
      unless it was cut.
    scores: [K] float32, higher is better.
    source: "file:line" of the record.
    cut: numbers of tokens dropped from (prompt, first response, second ...).
  """

  prompt: np.ndarray
  responses: tuple[np.ndarray, ...]
  scores: np.ndarray
  source: str
  cut: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBinary:
  """Token ids of a labelled response, as int32 arrays.

  Attributes:
    prompt: [n] ids, n > 0, with the tokens that begin the text.
    response: [n] ids, with the token that ends the response unless it was cut.
    desirable: the label.
    source: "file:line" of the record.
    cut: numbers of tokens dropped from (prompt, response).
  """

  prompt: np.ndarray
  response: np.ndarray
  desirable: bool
  source: str
  cut: tuple[int, ...] = (0, 0)


def encode_lists(
  records: Iterable[RankedRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedList], Truncation]:
  """Encodes ranked lists, cut to the limits.

  Args:
    records: the lists.
    tokenizer: encodes prompts and responses.
    limits: where to cut.

  Returns:
    (encoded lists, what was cut from them).

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
  """Encodes labelled responses; Args, Returns, Raises as in `encode_lists`."""
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
  """Tokens of a list's longest row: the prompt with the longest response."""
  return len(encoded.prompt) + max(map(len, encoded.responses))


def list_size(encoded: Iterable[EncodedList]) -> int:
  """Responses of the longest list, which is K of the lists' batches."""
  return max(len(ranked.responses) for ranked in encoded)


def binary_length(encoded: EncodedBinary) -> int:
  """Tokens of the prompt with its response."""
  return len(encoded.prompt) + len(encoded.response)


def _all_equal(encoded: EncodedList) -> bool:
  first = encoded.responses[0]
  return all(np.array_equal(first, other) for other in encoded.responses)
