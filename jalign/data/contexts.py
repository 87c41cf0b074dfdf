"""Demonstrations with a context, which only a teacher reads."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flax import struct

from jalign.data.collate import filled, rows_of_ids, weights_of
from jalign.data.limits import (
  Limits,
  Truncation,
  count_cuts,
  encode_texts,
  start_ids,
)
from jalign.data.schema import ContextRecord, DemonstrationRecord
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError
from jalign.types import Array, Sequences


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedContext:
  """Token ids of a response, of its prompt, and of a context before the prompt.

  Attributes:
    prompt: [n] int32, as the student reads it.
    context: [n] int32: the context and the prompt, as the teacher reads them.
    response: [n] int32, with the token that ends the response unless it was
      cut.
    source: "file:line" of the record.
    cut: numbers of tokens dropped from (prompt, response); the teacher's row
      loses the same tokens.
  """

  prompt: np.ndarray
  context: np.ndarray
  response: np.ndarray
  source: str
  cut: tuple[int, ...] = (0, 0)


class ContextBatch(struct.PyTreeNode):
  """Responses to a prompt, and to the same prompt after a context.

  Attributes:
    sequences: B rows: prompt, response.
    weights: [B] float32; 0 marks a row that only fills the batch.
    context: B rows: context, prompt, response. Each scores the same tokens as
      the row of `sequences`, at other places. T may differ.
  """

  sequences: Sequences
  weights: Array
  context: Sequences


def with_context(records: Sequence[Any], context: str) -> list[ContextRecord]:
  """Puts one context before the prompts of demonstrations.

  Args:
    records: the demonstrations.
    context: what the teacher reads before each prompt; a space or line break
      between the two belongs to one of them.

  Raises:
    UserError: the records aren't demonstrations.
  """
  for record in records:
    if not isinstance(record, DemonstrationRecord):
      raise UserError(
        f"a context stands before demonstrations, and the data has"
        f" {type(record).__name__}s.",
        remedy="data.convert='chosen_demonstrations' makes demonstrations of"
        " pairs, 'best_demonstrations' of ranked lists.",
      )
  return [
    ContextRecord(
      r.prompt, r.response, context, r.source, r.group, r.plain, r.end
    )
    for r in records
  ]


def encode_contexts(
  records: Iterable[ContextRecord], tokenizer: Tokenizer, limits: Limits
) -> tuple[list[EncodedContext], Truncation]:
  """Encodes demonstrations with their contexts.

  A context is never cut. Its tokens stand right before those of the prompt,
  with a border between tokens as there is between prompt and response.

  Args:
    records: the demonstrations.
    tokenizer: encodes the texts.
    limits: where prompts and responses are cut, the same for both rows.

  Returns:
    (encoded records, what was cut from them).

  Raises:
    UserError: a prompt has no token, a chat template wrote it, or context,
      prompt and response don't fit in the longest row.
  """
  encoded, joined = [], 0
  for record in records:
    if record.end is not None:
      raise UserError(
        "a chat template wrote the prompt, and a context can't stand before"
        " the template's own words.",
        where=record.source,
        remedy="Give plain texts, with the turns' marks written out.",
      )
    texts = encode_texts(record, (record.response,), tokenizer, limits)
    example = EncodedContext(
      texts.prompt,
      _behind(record, texts.prompt, texts.cut[0], tokenizer),
      texts.responses[0],
      record.source,
      texts.cut,
    )
    if context_length(example) > limits.max_tokens:
      raise UserError(
        f"context, prompt and response have {context_length(example)} tokens,"
        f" and the longest bucket has {limits.max_tokens}.",
        where=record.source,
        remedy="Add a longer bucket to data.buckets, or shorten the context.",
      )
    encoded.append(example)
    joined += texts.joined
  return encoded, Truncation(
    noun="demonstrations",
    count=len(encoded),
    parts={
      name: count_cuts(example.cut[i] for example in encoded)
      for i, name in enumerate(("prompts", "responses"))
    },
    joined=joined,
  )


def _behind(
  record: ContextRecord, prompt: np.ndarray, cut: int, tokenizer: Tokenizer
) -> np.ndarray:
  """Token ids of the context, then of what is left of the prompt."""
  if not record.context:
    return prompt
  before = start_ids(record.context, tokenizer, chat=False)
  ids, _ = tokenizer.encode_after(record.context, record.prompt)
  return np.array([*before, *ids[cut:]], np.int32)


def context_length(example: EncodedContext) -> int:
  """Tokens of the longer of the two rows, the teacher's."""
  rows = len(example.context), len(example.prompt)
  return max(rows) + len(example.response)


def context_lead(examples: Iterable[EncodedContext]) -> int:
  """The most tokens that every teacher's row has more than the student's."""
  return max(0, min(len(e.context) - len(e.prompt) for e in examples))


def collate_contexts(
  encoded: Sequence[EncodedContext],
  rows: int,
  length: int,
  *,
  lead: int = 0,
  pad_id: int = 0,
  fill: EncodedContext | None = None,
) -> ContextBatch:
  """Makes a batch of demonstrations, without and with their contexts.

  Args:
    encoded: at most `rows` demonstrations.
    rows: B, as in `collate_pairs`.
    length: T, tokens of a teacher's row including padding.
    lead: tokens by which each teacher's row is longer than the student's
      (`context_lead`). Students' rows are shorter by the multiple of 8 below.
    pad_id: any id of the vocabulary.
    fill: as in `collate_pairs`.

  Returns:
    ContextBatch of NumPy arrays.

  Raises:
    ValueError: as in `collate_pairs`.
  """
  examples = filled(encoded, rows, fill)
  short = length - lead // 8 * 8
  own = [(e.prompt, e.response) for e in examples]
  behind = [(e.context, e.response) for e in examples]
  return ContextBatch(
    rows_of_ids(own, short, pad_id),
    weights_of(len(encoded), rows),
    rows_of_ids(behind, length, pad_id),
  )
