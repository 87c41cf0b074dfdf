"""Turns token ids into right-padded batches of NumPy arrays.

Masks are computed from lengths, never from ids, since the padding's id may
equal the end of sequence.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from jalign.data.encode import EncodedPair, EncodedPrompt, all_or_none
from jalign.data.labelled import EncodedBinary, EncodedList
from jalign.data.mismatch import other_responses
from jalign.data.sequences import EncodedSequence
from jalign.types import (
  ListBatch,
  PairBatch,
  SequenceBatch,
  Sequences,
  UnpairedBatch,
)

Example = TypeVar("Example")


class PromptBatch(NamedTuple):
  """Right-padded prompts to generate from.

  Attributes:
    tokens: [P, T] int32.
    lengths: [P] int32, tokens of each prompt.
    weights: [P] float32; 0 marks a prompt that only fills the batch.
    texts: the P prompts as annotators see them.
  """

  tokens: np.ndarray
  lengths: np.ndarray
  weights: np.ndarray
  texts: list[str]


def collate_pairs(
  encoded: Sequence[EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedPair | None = None,
) -> PairBatch:
  """Makes a batch of pairs, whose chosen and rejected rows alternate.

  Args:
    encoded: at most `rows` pairs.
    rows: P, pairs of the batch. Where `encoded` has fewer, `fill` is repeated
      with weight 0, as a valid sequence with its mask: no length is 0.
    length: T, tokens of a row including padding.
    pad_id: any id of the vocabulary; the mask alone says what is scored.
    fill: pair that fills the batch; by default the first of `encoded`.

  Returns:
    PairBatch of NumPy arrays: tokens and mask [2P, T], lengths [2P], weights
    and, if the pairs have them, preference, chosen_scores and rejected_scores
    [P].

  Raises:
    UserError: only some of the pairs have a preference or a score.
    ValueError: there are too many pairs, a pair is longer than `length`, or
      there is nothing to fill the batch with.
  """
  pairs = filled(encoded, rows, fill)
  columns: dict[str, Any] = {
    name: all_or_none(pairs, field)
    for name, field in (
      ("preference", "preference"),
      ("chosen_scores", "chosen_score"),
      ("rejected_scores", "rejected_score"),
    )
  }
  sides = [(p.prompt, side) for p in pairs for side in (p.chosen, p.rejected)]
  return PairBatch(
    sequences=rows_of_ids(sides, length, pad_id),
    weights=weights_of(len(encoded), rows),
    **columns,
  )


def collate_chosen(
  encoded: Sequence[EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedPair | None = None,
) -> SequenceBatch:
  """Makes a batch of chosen responses; Args and Raises as in `collate_pairs`.

  Returns:
    SequenceBatch of NumPy arrays: tokens and mask [B, T], lengths and weights
    [B].
  """
  pairs = filled(encoded, rows, fill)
  return SequenceBatch(
    rows_of_ids([(p.prompt, p.chosen) for p in pairs], length, pad_id),
    weights_of(len(encoded), rows),
  )


def collate_sequences(
  encoded: Sequence[EncodedSequence],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedSequence | None = None,
) -> SequenceBatch:
  """Makes a batch of sequences that have masks of their own.

  Args and Raises as in `collate_pairs`.

  Returns:
    SequenceBatch of NumPy arrays: tokens and mask [B, T], lengths, weights and,
    if the sequences have them, rewards and values [B].
  """
  examples = filled(encoded, rows, fill)
  mask: Any = np.zeros((rows, length), bool)
  for row, sequence in zip(mask, examples):
    row[: len(sequence.mask)] = sequence.mask[:length]
  lengths: Any = np.array(
    [len(sequence.ids) for sequence in examples], np.int32
  )
  sequences = Sequences(
    tokens=_padded([sequence.ids for sequence in examples], length, pad_id),
    mask=mask,
    lengths=lengths,
  )
  columns: dict[str, Any] = {
    "rewards": all_or_none(examples, "reward"),
    "values": all_or_none(examples, "value"),
  }
  return SequenceBatch(sequences, weights_of(len(encoded), rows), **columns)


def collate_lists(
  encoded: Sequence[EncodedList],
  rows: int,
  length: int,
  *,
  size: int,
  pad_id: int = 0,
  fill: EncodedList | None = None,
) -> ListBatch:
  """Makes a batch of ranked lists; a prompt's responses are adjacent rows.

  Args:
    encoded: at most `rows` lists.
    rows: B, lists of the batch; filled as in `collate_pairs`.
    length: T, tokens of a row including padding.
    size: K, responses of the longest list of all batches (`list_size`).
      Shorter lists repeat their first response, with score 0, as not valid.
    pad_id: any id of the vocabulary.
    fill: list that fills the batch; by default the first of `encoded`.

  Returns:
    ListBatch of NumPy arrays: tokens and mask [B * K, T], lengths [B * K],
    weights [B], scores and valid [B, K].

  Raises:
    ValueError: as in `collate_pairs`; or a list has more than `size` responses.
  """
  lists = filled(encoded, rows, fill)
  scores: Any = np.zeros((rows, size), np.float32)
  valid: Any = np.zeros((rows, size), bool)
  sides = []
  for row, ranked in enumerate(lists):
    count = len(ranked.responses)
    if count > size:
      raise ValueError(f"{count} responses do not fit in {size}.")
    scores[row, :count] = ranked.scores
    valid[row, :count] = True
    padding = (ranked.responses[0],) * (size - count)
    sides += [(ranked.prompt, ids) for ids in ranked.responses + padding]
  return ListBatch(
    sequences=rows_of_ids(sides, length, pad_id),
    weights=weights_of(len(encoded), rows),
    scores=scores,
    valid=valid,
  )


def collate_unpaired(
  encoded: Sequence[EncodedBinary],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedBinary | None = None,
  spare: Sequence[EncodedBinary] = (),
) -> UnpairedBatch:
  """Makes a batch of labelled responses.

  The mismatched rows hold each prompt with a response to another prompt: see
  `other_responses`. A response that doesn't fit beside the other prompt is
  cut, and the batch tells by how much. Where no example and none of `spare` has
  another prompt, the mismatched row scores no token, and the batch marks it.

  Args:
    encoded: as in `collate_pairs`.
    rows: as in `collate_pairs`.
    length: as in `collate_pairs`.
    pad_id: as in `collate_pairs`.
    fill: as in `collate_pairs`.
    spare: examples to take responses from where all of the batch has one
      prompt; see `spare_responses`.

  Returns:
    UnpairedBatch of NumPy arrays: tokens and mask [B, T], lengths, weights,
    desirable, mismatched_cut (tokens) and unmatched [B].

  Raises:
    ValueError: as in `collate_pairs`.
  """
  examples = filled(encoded, rows, fill)
  desirable: Any = np.array([example.desirable for example in examples], bool)
  empty = np.zeros(0, np.int32)
  live = len(encoded)
  other = other_responses(encoded, spare) + [None] * (rows - live)
  others = [empty if response is None else response for response in other]
  rooms = [length - len(example.prompt) for example in examples]
  unmatched: Any = np.array([response is None for response in other])
  cut: Any = np.array(
    [max(len(r) - room, 0) for r, room in zip(others, rooms)], np.float32
  )
  return UnpairedBatch(
    sequences=rows_of_ids(
      [(example.prompt, example.response) for example in examples],
      length,
      pad_id,
    ),
    weights=weights_of(live, rows),
    desirable=desirable,
    mismatched=rows_of_ids(
      [
        (example.prompt, r[:n])
        for example, r, n in zip(examples, others, rooms)
      ],
      length,
      pad_id,
    ),
    mismatched_cut=cut,
    unmatched=unmatched.astype(np.float32),
  )


def collate_prompts(
  encoded: Sequence[EncodedPrompt],
  rows: int | None = None,
  length: int | None = None,
  *,
  pad_id: int = 0,
  fill: EncodedPrompt | None = None,
) -> PromptBatch:
  """Makes a batch of prompts; fill and errors are as in `collate_pairs`.

  Args:
    encoded: at most `rows` prompts.
    rows: P, prompts of the batch; by default as many as `encoded` has.
    length: T, tokens of a row; by default those of the longest prompt.
    pad_id: any id of the vocabulary.
    fill: prompt that fills the batch; by default the first of `encoded`.
  """
  rows = len(encoded) if rows is None else rows
  prompts = filled(encoded, rows, fill)
  lengths = np.array([len(prompt.ids) for prompt in prompts], np.int32)
  return PromptBatch(
    _padded(
      [prompt.ids for prompt in prompts],
      int(lengths.max(initial=0)) if length is None else length,
      pad_id,
    ),
    lengths,
    weights_of(len(encoded), rows),
    [prompt.text for prompt in prompts],
  )


def filled(
  encoded: Sequence[Example], rows: int, fill: Example | None
) -> list[Example]:
  """The examples, and copies of `fill` (or the first of them) up to `rows`."""
  examples = list(encoded)
  if len(examples) > rows:
    raise ValueError(f"{len(examples)} examples do not fit in {rows} rows.")
  if not examples and fill is None:
    raise ValueError("an empty batch needs an example to fill it: pass fill=.")
  return examples + [examples[0] if fill is None else fill] * (
    rows - len(examples)
  )


def weights_of(real: int, rows: int) -> Any:
  """[rows] float32, 1 for each of the first `real` rows, else 0."""
  return (np.arange(rows) < real).astype(np.float32)


def rows_of_ids(
  rows: Sequence[tuple[np.ndarray, np.ndarray]], length: int, pad_id: int
) -> Any:
  """Sequences of NumPy arrays [B, T]; a row is (prompt ids, response ids)."""
  starts: Any = np.array([len(prompt) for prompt, _ in rows], np.int32)
  ends: Any = starts + np.array([len(ids) for _, ids in rows], np.int32)
  columns = np.arange(length)
  return Sequences(
    tokens=_padded([np.concatenate(row) for row in rows], length, pad_id),
    mask=(columns >= starts[:, None]) & (columns < ends[:, None]),
    lengths=ends,
  )


def _padded(
  rows: Sequence[Sequence[int] | np.ndarray], length: int, pad_id: int
) -> Any:
  """[B, T] int32, right-padded."""
  tokens = np.full((len(rows), length), pad_id, np.int32)
  for row, ids in zip(tokens, rows):
    if len(ids) > length:
      raise ValueError(f"{len(ids)} tokens do not fit in {length}.")
    row[: len(ids)] = ids
  return tokens
