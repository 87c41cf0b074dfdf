"""Token ids become right-padded batches of NumPy arrays.

Masks and lengths are computed from lengths, never from ids: padding may equal
the end of sequence.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.encode import EncodedPair, all_or_none
from jalign.types import PairBatch, SequenceBatch, Sequences


class PromptTokens(NamedTuple):
  """Right-padded prompts.

  Attributes:
    tokens: [B, T] int32.
    lengths: [B] int32.
  """

  tokens: np.ndarray
  lengths: np.ndarray


def collate_pairs(
  encoded: Sequence[EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedPair | None = None,
) -> PairBatch:
  """A batch of pairs, chosen and rejected rows interleaved.

  Args:
    encoded: at most `rows` pairs.
    rows: P, pairs of the batch. Beyond `encoded` they repeat `fill` with
      weight 0: a valid sequence with its mask, so that no length is 0.
    length: T, tokens of a row with padding.
    pad_id: any id of the vocabulary; the mask alone says what is scored.
    fill: pair that fills the batch; default the first of `encoded`.

  Returns:
    NumPy PairBatch: tokens and mask [2P, T], lengths [2P], weights [P] and,
    if the pairs have them, preference, chosen_scores and rejected_scores [P].

  Raises:
    UserError: only some of the pairs have a preference or a score.
    ValueError: too many pairs, a pair longer than `length`, or nothing to
      fill the batch with.
  """
  pairs = _filled(encoded, rows, fill)
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
    sequences=_sequences(sides, length, pad_id),
    weights=_weights(len(encoded), rows),
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
  """A batch of chosen responses; arguments and errors as `collate_pairs`.

  Returns:
    NumPy SequenceBatch: tokens and mask [B, T], lengths and weights [B].
  """
  pairs = _filled(encoded, rows, fill)
  return SequenceBatch(
    _sequences([(p.prompt, p.chosen) for p in pairs], length, pad_id),
    _weights(len(encoded), rows),
  )


def collate_rejected(
  encoded: Sequence[EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedPair | None = None,
) -> SequenceBatch:
  """A batch of rejected responses; arguments and errors as `collate_pairs`.

  Returns:
    NumPy SequenceBatch: tokens and mask [B, T], lengths and weights [B].
  """
  pairs = _filled(encoded, rows, fill)
  return SequenceBatch(
    _sequences([(p.prompt, p.rejected) for p in pairs], length, pad_id),
    _weights(len(encoded), rows),
  )


def collate_prompts(
  prompts: Sequence[Sequence[int] | np.ndarray],
  pad_id: int,
  length: int | None = None,
) -> PromptTokens:
  """Right-padded prompts to generate from.

  Args:
    prompts: B sequences of token ids, none empty.
    pad_id: any id of the vocabulary.
    length: T; default the longest prompt.

  Returns:
    (tokens [B, T], lengths [B]), int32.

  Raises:
    ValueError: an empty prompt, or one longer than `length`.
  """
  lengths = np.array([len(ids) for ids in prompts], np.int32)
  if not len(lengths) or lengths.min() < 1:
    raise ValueError("collate_prompts needs prompts, none of them empty.")
  length = int(lengths.max()) if length is None else length
  return PromptTokens(_padded(prompts, length, pad_id), lengths)


def _filled(
  encoded: Sequence[EncodedPair], rows: int, fill: EncodedPair | None
) -> list[EncodedPair]:
  pairs = list(encoded)
  if len(pairs) > rows:
    raise ValueError(f"{len(pairs)} pairs do not fit in {rows} rows.")
  if len(pairs) < rows and fill is None and not pairs:
    raise ValueError("an empty batch needs a pair to fill it: pass fill=.")
  return pairs + [pairs[0] if fill is None else fill] * (rows - len(pairs))


def _weights(real: int, rows: int) -> Any:
  return (np.arange(rows) < real).astype(np.float32)


def _sequences(
  rows: Sequence[tuple[np.ndarray, np.ndarray]], length: int, pad_id: int
) -> Any:
  """Sequences [B, T] of (prompt, response) rows, NumPy."""
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
