"""Batches of pairs with what is known of their raters."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import struct

from jalign import data
from jalign.types import Array, Sequences

CONTEXT = 8  # most pairs from which a rater is inferred


class RaterBatch(struct.PyTreeNode):
  """Preference pairs with what is known of their raters.

  Attributes:
    sequences: B * 2 (1 + C) rows: a pair's chosen and rejected response, and
      those of C other pairs of the same rater. C is 0 where `context` is None.
    weights: [B] float32; 0 marks a pair that only fills the batch.
    preference: [B] float32 P(chosen > rejected) in [0, 1], for soft labels.
    context: [B, C] bool, False for other pairs that only fill the batch.
    seeds: [B] uint32 seed of the noise in each rater's vector; None where the
      vector isn't drawn.
    raters: [B] int32 number of each rater; -1 for a rater never seen.
  """

  sequences: Sequences
  weights: Array
  preference: Array | None = None
  context: Array | None = None
  seeds: Array | None = None
  raters: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RatedPair(data.EncodedPair):
  """A pair, with the tokens of the longest row of any pair of its rater."""

  longest: int = 0


Pools = Mapping[Any, Sequence[data.EncodedPair]]  # rater -> the rater's pairs


def pools_of(pairs: Sequence[data.EncodedPair]) -> Pools:
  """Each rater's pairs, in their order."""
  pools: dict[Any, list[data.EncodedPair]] = {}
  for pair in pairs:
    pools.setdefault(pair.rater, []).append(pair)
  return pools


def rated(pairs: Sequence[data.EncodedPair]) -> list[RatedPair]:
  longest = {
    rater: max(map(data.pair_length, pool))
    for rater, pool in pools_of(pairs).items()
  }
  return [RatedPair(**vars(p), longest=longest[p.rater]) for p in pairs]


def draw_context(
  pair: data.EncodedPair,
  pool: Sequence[data.EncodedPair],
  most: int,
  seed: int,
) -> tuple[data.EncodedPair, ...]:
  """Draws 0 to `most` pairs of a rater on other prompts than a pair's.

  The number is uniform, so that a head learns to infer from few pairs as from
  many; it is smaller where the rater has fewer.

  Args:
    pair: a pair of the rater.
    pool: the rater's pairs.
    most: C.
    seed: decides the draw, together with the pair's source.
  """
  generator = np.random.default_rng([seed, zlib.crc32(pair.source.encode())])
  count = int(generator.integers(most + 1))
  drawn: list[data.EncodedPair] = []
  for i in generator.permutation(len(pool)):
    if len(drawn) == count:
      break
    if not np.array_equal(pool[i].prompt, pair.prompt):
      drawn.append(pool[i])
  return tuple(drawn)


def collate_rated(
  encoded: Sequence[data.EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: data.EncodedPair | None = None,
  pools: Pools,
  most: int = CONTEXT,
  sampled: bool = True,
) -> RaterBatch:
  """Makes a batch of pairs with pairs of the same raters beside them.

  Args:
    encoded: at most `rows` pairs.
    rows: B, pairs of the batch; see `data.collate_pairs`.
    length: T, tokens of a row.
    pad_id: any id of the vocabulary.
    fill: pair that fills the batch, by default the first of `encoded`.
    pools: the pairs that may be drawn.
    most: C, pairs from which a rater is inferred; where there are fewer, the
      pair itself fills the rows, and `context` is False.
    sampled: whether vectors of raters are drawn. The draws then depend on
      which pairs the batch has, and so on the epoch. Otherwise each pair has
      the same context in every epoch.

  Returns:
    RaterBatch of NumPy arrays.

  Raises:
    ValueError: as in `data.collate_pairs`.
  """
  filler = encoded[0] if fill is None else fill
  pairs = [*encoded, *[filler] * (rows - len(encoded))]
  seed = 0
  if sampled:
    seed = zlib.crc32("\n".join(pair.source for pair in encoded).encode())
  drawn = [draw_context(p, pools[p.rater], most, seed) for p in pairs]
  every = [
    row
    for pair, some in zip(pairs, drawn)
    for row in (pair, *some, *[pair] * (most - len(some)))
  ]
  plain = [
    dataclasses.replace(
      row, preference=None, chosen_score=None, rejected_score=None
    )
    for row in every
  ]
  flat = data.collate_pairs(plain, len(every), length, pad_id=pad_id)
  live: Any = (np.arange(rows) < len(encoded)).astype(np.float32)
  context: Any = np.arange(most) < np.array([[len(some)] for some in drawn])
  seeds: Any = None
  if sampled:
    marks = (f"{seed} {pair.source}" for pair in pairs)
    seeds = np.array([zlib.crc32(m.encode()) for m in marks], np.uint32)
  return RaterBatch(
    flat.sequences,
    live,
    preference=_preference(pairs),
    context=context,
    seeds=seeds,
  )


def collate_numbered(
  encoded: Sequence[data.EncodedPair],
  rows: int,
  length: int,
  *,
  pad_id: int = 0,
  fill: data.EncodedPair | None = None,
  numbers: dict[str, int] | None = None,
) -> RaterBatch:
  """Makes a batch of pairs with their raters' numbers.

  Args:
    encoded: at most `rows` pairs.
    rows: B, pairs of the batch; see `data.collate_pairs`.
    length: T, tokens of a row.
    pad_id: any id of the vocabulary.
    fill: pair that fills the batch, by default the first of `encoded`.
    numbers: rater -> number; a rater that it lacks has the number -1.

  Returns:
    RaterBatch of NumPy arrays.
  """
  flat = data.collate_pairs(encoded, rows, length, pad_id=pad_id, fill=fill)
  filler = encoded[0] if fill is None else fill
  known = numbers or {}
  raters: Any = np.array(
    [
      known.get(str(pair.rater), -1)
      for pair in [*encoded, *[filler] * (rows - len(encoded))]
    ],
    np.int32,
  )
  return RaterBatch(
    flat.sequences, flat.weights, preference=flat.preference, raters=raters
  )


def numbers_of(pairs: Sequence[data.EncodedPair]) -> dict[str, int]:
  """The raters of the pairs, numbered in alphabetical order."""
  names = sorted({str(pair.rater) for pair in pairs})
  return {name: number for number, name in enumerate(names)}


def _preference(pairs) -> Any:
  values = [pair.preference for pair in pairs]
  return None if None in values else np.array(values, np.float32)
