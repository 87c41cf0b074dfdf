"""Batches for the head of a reward model, from pairs, lists and responses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import struct

from jalign.data.collate import (
  collate_lists,
  collate_pairs,
  filled,
  rows_of_ids,
  weights_of,
)
from jalign.data.encode import EncodedPair, all_or_none
from jalign.data.labelled import EncodedBinary, EncodedList
from jalign.data.ratings import EncodedRating
from jalign.types import Array, Sequences


class ScoreBatch(struct.PyTreeNode):
  """Ranked, labelled or rated responses, for the head of a reward model.

  Attributes:
    sequences: B * K rows, the K responses of a prompt adjacent and the best
      response first; the chosen response is the first of a pair.
    weights: [B] float32; 0 marks an example that only fills the batch.
    ranks: [B, K] float32, 1 for the best response; equal ranks are ties.
    valid: [B, K] bool, False where a prompt has fewer than K responses.
    preference: [B] float32 P(first > second) in [0, 1]; for pairs only.
    margin: [B] float32, how much better the first response is; for pairs only.
    unsafe: [B, 2] bool, whether each response of a pair is unsafe.
    objective: [B, M] float32, 1 where a pair is labelled under an objective.
    objective_preferences: [B, M] float32 P(first > second) under an objective;
      1/2 where the pair has no label under it.
    desirable: [B] bool, the label of a single response.
    ratings: [B, M] float32 ratings of a single response; 0 where one is
      missing.
    rated: [B, M] bool, False where a rating is missing.
    names: the M names of the objectives; no array.
  """

  sequences: Sequences
  weights: Array
  ranks: Array
  valid: Array
  preference: Array | None = None
  margin: Array | None = None
  unsafe: Array | None = None
  objective: Array | None = None
  objective_preferences: Array | None = None
  desirable: Array | None = None
  ratings: Array | None = None
  rated: Array | None = None
  names: tuple[str, ...] = struct.field(pytree_node=False, default=())


def collate_scored_pairs(
  encoded: Sequence[EncodedPair],
  rows: int,
  length: int,
  *,
  names: Sequence[str] = (),
  pad_id: int = 0,
  fill: EncodedPair | None = None,
) -> ScoreBatch:
  """Makes a batch of pairs, whose chosen and rejected rows alternate.

  The margin of a pair is the record's `margin` or, where the records have none,
  the difference of their scores.

  Args:
    encoded: as in `collate_pairs`.
    rows: as in `collate_pairs`.
    length: as in `collate_pairs`.
    names: the M names of the objectives, in the order of the arrays; without
      any, the batch has no arrays of objectives.
    pad_id: as in `collate_pairs`.
    fill: as in `collate_pairs`.

  Returns:
    ScoreBatch of NumPy arrays for K = 2.

  Raises:
    UserError: only some of the pairs have a number or a label.
    ValueError: as in `collate_pairs`; or an objective isn't among the names.
  """
  batch = collate_pairs(encoded, rows, length, pad_id=pad_id, fill=fill)
  pairs = filled(encoded, rows, fill)
  margin: Any = all_or_none(pairs, "margin")
  scores = batch.chosen_scores, batch.rejected_scores
  if margin is None and scores[0] is not None and scores[1] is not None:
    margin = scores[0] - scores[1]
  sides = [
    side
    for name in ("chosen_unsafe", "rejected_unsafe")
    if (side := all_or_none(pairs, name)) is not None
  ]
  unsafe: Any = np.stack(sides, 1) > 0 if len(sides) == 2 else None
  objectives: dict[str, Any] = {}
  if names:
    values, known = _table([pair.objectives for pair in pairs], names)
    halves = np.where(known, values, np.float32(0.5))
    objectives = {
      "objective": known.astype(np.float32),
      "objective_preferences": halves,
    }
  return ScoreBatch(
    batch.sequences,
    batch.weights,
    **_places(rows, 2),
    preference=batch.preference,
    margin=margin,
    unsafe=unsafe,
    names=tuple(names),
    **objectives,
  )


def collate_scored_lists(
  encoded: Sequence[EncodedList], rows: int, length: int, **options: Any
) -> ScoreBatch:
  """Makes a batch of lists, with ranks in place of scores; rank 1 is the best.

  Args and Raises as in `collate_lists`. The best response has to be the first
  of its list.
  """
  lists = collate_lists(encoded, rows, length, **options)
  scores, valid = np.asarray(lists.scores), np.asarray(lists.valid)
  better = (scores[:, None, :] > scores[:, :, None]) & valid[:, None, :]
  places: Any = 1 + better.sum(-1, dtype=np.float32)
  return ScoreBatch(lists.sequences, lists.weights, places, lists.valid)


def collate_scored_labels(
  encoded: Sequence[EncodedBinary],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: EncodedBinary | None = None,
) -> ScoreBatch:
  """Makes a batch of labelled responses; Args and Raises as in `collate_pairs`.

  Returns:
    ScoreBatch of NumPy arrays for K = 1, with `desirable`.
  """
  examples = filled(encoded, rows, fill)
  desirable: Any = np.array([example.desirable for example in examples], bool)
  return ScoreBatch(
    rows_of_ids([(e.prompt, e.response) for e in examples], length, pad_id),
    weights_of(len(encoded), rows),
    **_places(rows, 1),
    desirable=desirable,
  )


def collate_ratings(
  encoded: Sequence[EncodedRating],
  rows: int,
  length: int,
  *,
  names: Sequence[str],
  pad_id: int = 0,
  fill: EncodedRating | None = None,
) -> ScoreBatch:
  """Makes a batch of rated responses.

  Args and Raises as in `collate_scored_pairs`.

  Returns:
    ScoreBatch of NumPy arrays for K = 1, with `ratings` and `rated`.
  """
  examples = filled(encoded, rows, fill)
  ratings, rated = _table([example.ratings for example in examples], names)
  return ScoreBatch(
    rows_of_ids([(e.prompt, e.response) for e in examples], length, pad_id),
    weights_of(len(encoded), rows),
    **_places(rows, 1),
    ratings=ratings,
    rated=rated,
    names=tuple(names),
  )


def _places(rows: int, size: int) -> dict[str, Any]:
  """Ranks 1 to K of valid responses: the arrays `ranks` and `valid`."""
  ranks = np.tile(np.arange(1, size + 1, dtype=np.float32), (rows, 1))
  return {"ranks": ranks, "valid": np.ones((rows, size), bool)}


def _table(
  named: Sequence[Mapping[str, float]], names: Sequence[str]
) -> tuple[Any, Any]:
  """Numbers by name as ([B, M] float32, 0 where missing; [B, M] bool)."""
  at = {name: column for column, name in enumerate(names)}
  values = np.zeros((len(named), len(names)), np.float32)
  known = np.zeros(values.shape, bool)
  for row, numbers in enumerate(named):
    for name, value in numbers.items():
      if name not in at:
        raise ValueError(f"{name!r} is not among the objectives {names}.")
      values[row, at[name]], known[row, at[name]] = value, True
  return values, known
