"""Packs short sequences into rows of one width, on the host.

The rows of a batch are as long as its longest sequence, and padding costs as
much as tokens do. Packed, several sequences share a row, as segments that each
have positions of their own. Responses to one prompt may also share what they
begin with: the row holds the shared prefix once, and each response continues
it.

A packed batch is the original batch with `sequences.packed` beside its arrays.
It has the same examples, and so the same losses.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.errors import UserError
from jalign.types import Packed, Sequences


class Fit(NamedTuple):
  """Where items lie in rows.

  Attributes:
    rows: [n] int64, row of each item; -1 for an item that fits in no row.
    starts: [n] int64, first slot of each item in its row.
    used: number of rows that hold something.
    left: indices of the items that fit in no row.
  """

  rows: np.ndarray
  starts: np.ndarray
  used: int
  left: tuple[int, ...]


def best_fit(lengths: Any, width: int, rows: int | None = None) -> Fit:
  """Packs by best fit decreasing: longest first, where least room is left over.

  Johnson et al. 1974, "Worst-Case Performance Bounds for Simple One-Dimensional
  Packing Algorithms": at most 11/9 of the fewest possible rows, plus four.

  Args:
    lengths: [n] slots that each item takes.
    width: slots of a row.
    rows: number of rows; None for as many as the items need.
  """
  sizes = np.asarray(lengths, np.int64)
  at = np.full(len(sizes), -1, np.int64)
  starts = np.zeros(len(sizes), np.int64)
  open_rows: list[tuple[int, int]] = []  # (room, row), ascending
  used = 0
  for item in np.argsort(-sizes, kind="stable").tolist():
    size = int(sizes[item])
    place = bisect.bisect_left(open_rows, (size, -1))
    if place < len(open_rows):
      room, row = open_rows.pop(place)
    elif size <= width and (rows is None or used < rows):
      room, row, used = width, used, used + 1
    else:
      continue
    at[item], starts[item] = row, width - room
    bisect.insort(open_rows, (room - size, row))
  return Fit(at, starts, used, tuple(np.flatnonzero(at < 0).tolist()))


def pack(
  sequences: Sequences,
  live: Sequence[bool] | np.ndarray,
  *,
  width: int = 0,
  rows: int | None = None,
  groups: int = 1,
  share_prefix: bool = False,
) -> Sequences:
  """The same sequences, with `packed` rows that are read in their place.

  Args:
    sequences: R rows of NumPy arrays; each of E examples has R / E of them,
      adjacent.
    live: [E], False for examples that only fill the batch. They are left out
      of the packed rows, and what is computed for them means nothing.
    width: W, slots of a row. Rows are wider where the sequences of one example,
      with their prefix held once, need more. 0 gives each example (or each
      sequence, if no prefix is shared) a row of its own, as wide as the longest
      one needs.
    rows: n, rows of each group; None for as many as the fullest group needs.
      Computed widths and row counts are rounded up to four binary digits, so
      that few different shapes have to be compiled.
    groups: G, a divisor of E. Adjacent examples form a group, which is packed
      apart from the other groups. Give the number of devices that hold rows,
      times that of microbatches.
    share_prefix: whether to hold what all sequences of an example begin with
      only once.

  Returns:
    `sequences` with `packed` set: arrays [G, n, W].

  Raises:
    UserError: a group doesn't fit into its rows.
    ValueError: the groups don't divide the examples.
  """
  tokens, lengths = np.asarray(sequences.tokens), np.asarray(sequences.lengths)
  live = np.asarray(live, bool)
  if len(live) % groups:
    raise ValueError(f"{len(live)} examples don't make {groups} groups.")
  count = len(tokens) // len(live)
  if not share_prefix:
    live, count = np.repeat(live, count), 1
  common = _common_prefix(
    tokens.reshape(len(live), count, -1), lengths.reshape(len(live), count)
  )
  # A response continues from a copy of the last token that it shares, so that
  # each slot predicts the slot after it.
  once = np.maximum(common - 1, 0) if count > 1 else np.zeros_like(common)
  sizes = once + (lengths.reshape(-1, count) - once[:, None]).sum(-1)
  sizes = np.where(live, sizes, 0)
  wanted: Any = sizes
  if not width:
    width = _rounded(max(int(sizes.max()), 1))
    wanted = np.where(live, width, 0)
  elif count > 1:
    width = max(width, _rounded(int(sizes.max())))
  members = np.arange(len(live)).reshape(groups, -1)
  fits = [best_fit(wanted[units], width, rows) for units in members]
  for units, fit in zip(members, fits):
    if fit.left:
      raise UserError(
        f"{len(fit.left)} of {len(units)} sequences found no room in"
        f" {rows or 'any number of'} rows of {width} tokens; the longest has"
        f" {int(sizes[units[list(fit.left)]].max())}.",
        where="packing",
        remedy="Give more rows, or wider ones.",
      )
  if rows is None:
    rows = _rounded(max(1, *(fit.used for fit in fits)))
  shape = (groups, rows, width)
  packed: dict[str, Any] = {
    name: np.zeros(shape, np.int32)
    for name in ("tokens", "positions", "segment_ids", "prefix_ids")
  }
  places: Any = np.zeros((len(live), count, tokens.shape[1]), np.int32)
  for group, (units, fit) in enumerate(zip(members, fits)):
    slots = {name: a[group].reshape(-1) for name, a in packed.items()}
    segment = 1
    for unit, row, start in zip(units, fit.rows, fit.starts):
      if not live[unit]:
        continue
      part = slice(unit * count, (unit + 1) * count)
      _write(
        slots,
        places[unit],
        [ids[:n] for ids, n in zip(tokens[part], lengths[part])],
        int(once[unit]),
        int(row * width + start),
        segment,
      )
      segment += 1 + count
  if count == 1:
    del packed["prefix_ids"]
  places = places.reshape(groups, -1, tokens.shape[1])
  return sequences.replace(packed=Packed(places=places, **packed))


def _write(slots, places, sequences, once, at, segment) -> None:
  """Writes an example from a slot on: its shared prefix, then each sequence.

  Args:
    slots: arrays of a group's slots, to write to.
    places: [K, T] slots of each sequence's tokens, to write to.
    sequences: K arrays of token ids.
    once: number of first tokens that the sequences share.
    at: first slot.
    segment: id of the shared prefix; the ids of the K sequences follow it.
  """
  shared = np.arange(at, at + once)
  at += once
  slots["segment_ids"][shared] = slots["prefix_ids"][shared] = segment
  for i, ids in enumerate(sequences):
    own = np.arange(at, at + len(ids) - once)
    at += len(own)
    slots["segment_ids"][own] = segment + 1 + i
    slots["prefix_ids"][own] = segment if once else segment + 1 + i
    places[i, : len(ids)] = where = np.concatenate([shared, own])
    slots["tokens"][where] = ids
    slots["positions"][where] = np.arange(len(ids))


def _common_prefix(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """[U] lengths of what all K sequences of a unit [U, K, T] begin with."""
  same = (tokens == tokens[:, :1]).all(1)
  same &= np.arange(tokens.shape[-1]) < lengths.min(-1, keepdims=True)
  return np.cumprod(same, -1).sum(-1)


def _rounded(count: int) -> int:
  """Rounds up to a number of at most four binary digits, then zeros."""
  step = 1 << max(count.bit_length() - 4, 0)
  return -(-count // step) * step


class PackingReport(NamedTuple):
  """How full the rows of some batches are.

  Attributes:
    sequences: number of sequences packed.
    rows: number of rows that hold them.
    tokens: number of slots in use; a shared prefix counts once.
    slots: number of slots of all rows.
    padded: number of tokens, with padding, of the same sequences unpacked.
  """

  sequences: int
  rows: int
  tokens: int
  slots: int
  padded: int

  def summary(self) -> str:
    """One line for people."""
    return (
      f"packed {self.sequences} sequences into {self.rows} rows,"
      f" {self.tokens / max(self.slots, 1):.0%} of tokens used;"
      f" {self.slots / max(self.padded, 1):.0%} of the tokens of unpacked rows"
    )


def packing_report(batches: Iterable[Any]) -> PackingReport:
  """Counts how full the rows of packed batches are.

  Args:
    batches: collated with a `Packing`.
  """
  total = np.zeros(5, np.int64)
  for batch in batches:
    packed = batch.sequences.packed
    slots, length = packed.tokens.size, batch.sequences.tokens.shape[1]
    responses = len(batch.sequences.tokens) // len(batch.weights)
    live = int((np.asarray(batch.weights) > 0).sum()) * responses
    rows = packed.tokens.shape[0] * packed.tokens.shape[1]
    own = len(batch.sequences.tokens) * length
    total += (live, rows, int((packed.segment_ids > 0).sum()), slots, own)
  return PackingReport(*total.tolist())


@dataclasses.dataclass(frozen=True)
class Packing:
  """How the batches of a stage are packed; see `pack`.

  Attributes:
    width: slots of a row that several sequences share; 0 gives each example a
      row of its own.
    share_prefix: whether an example's sequences share what they begin with.
    groups: number of groups of a batch, which are packed apart.
  """

  width: int = 0
  share_prefix: bool = False
  groups: int = 1

  def collate(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a collate function that packs its batches, too."""

    def packed(*args: Any, **kwargs: Any) -> Any:
      batch = function(*args, **kwargs)
      rows = {
        name: getattr(batch, name, None)
        for name in ("sequences", "mismatched", "context")
      }
      return batch.replace(
        **{
          name: pack(
            sequences,
            batch.weights > 0,
            width=self.width,
            groups=self.groups,
            share_prefix=self.share_prefix,
          )
          for name, sequences in rows.items()
          if sequences is not None
        }
      )

    return packed
