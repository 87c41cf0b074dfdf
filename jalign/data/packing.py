"""Short sequences packed into rows of one width, on the host.

Rows of a batch are as long as its longest sequence, and padding costs as much
as tokens do. Here several sequences share a row, each a segment with positions
of its own. The responses to one prompt may also share what they begin with: the
row holds it once, and each response goes on from there.

A packed batch is the batch that it was, with `sequences.packed` beside its
arrays: the same examples, so the same losses.
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
    rows: [n] int64 row of each item, -1 where it found none.
    starts: [n] int64 first slot in that row.
    used: rows that hold something.
    left: items that found no row.
  """

  rows: np.ndarray
  starts: np.ndarray
  used: int
  left: tuple[int, ...]


def best_fit(lengths: Any, width: int, rows: int | None = None) -> Fit:
  """Best fit decreasing: the longest first, each where it leaves least room.

  Johnson et al. 1974, "Worst-Case Performance Bounds for Simple One-Dimensional
  Packing Algorithms": at most 11/9 of the fewest rows, plus four.

  Args:
    lengths: [n] slots of each item.
    width: slots of a row.
    rows: how many there are; None for as many as it takes.
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
  """The same sequences, with `packed` rows to read in their place.

  Args:
    sequences: R rows of NumPy arrays, R / E of each of E examples, adjacent.
    live: [E] False for examples that only fill the batch: they are left out,
      and what is computed for them means nothing.
    width: W, slots of a row; they are wider where the sequences of one example,
      with their prefix held once, need it. 0 gives each example (each sequence,
      where no prefix is shared) a row of its own, as wide as the longest needs.
    rows: n, rows of each group; None for as many as the fullest group needs.
      Counts that aren't given are rounded up to four binary digits, so that
      there are few different shapes to compile.
    groups: G, a divisor of E: adjacent examples are packed together, and apart
      from the rest. One for each device that holds rows, times microbatches.
    share_prefix: hold what all sequences of an example begin with once.

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
  # A response goes on from a copy of the last token that it shares, so that
  # each slot predicts the one after it.
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
  """One unit at a slot: what is held once, then the rest of each sequence.

  Args:
    slots: arrays of a group's slots, to write to.
    places: [K, T] slots of each sequence's tokens, to write to.
    sequences: K arrays of token ids.
    once: how many of their tokens they share.
    at: first slot.
    segment: id of what is shared; those of the K sequences follow.
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
  """[U] tokens that all K sequences of a unit [U, K, T] begin with."""
  same = (tokens == tokens[:, :1]).all(1)
  same &= np.arange(tokens.shape[-1]) < lengths.min(-1, keepdims=True)
  return np.cumprod(same, -1).sum(-1)


def _rounded(count: int) -> int:
  """The next number of at most four binary digits before its zeros."""
  step = 1 << max(count.bit_length() - 4, 0)
  return -(-count // step) * step


class PackingReport(NamedTuple):
  """How full the rows of some batches are.

  Attributes:
    sequences: that were packed.
    rows: that hold them.
    tokens: slots in use; a shared prefix counts once.
    slots: of all rows.
    padded: tokens that the sequences' own rows would have had, with padding.
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
  """Counts over batches that were collated with a `Packing`."""
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
    width: tokens of a row that several share; 0 for a row each.
    share_prefix: whether an example's sequences share what they begin with.
    groups: of a batch.
  """

  width: int = 0
  share_prefix: bool = False
  groups: int = 1

  def collate(self, function: Callable[..., Any]) -> Callable[..., Any]:
    """A collate function whose batches are packed as well."""

    def packed(*args: Any, **kwargs: Any) -> Any:
      batch = function(*args, **kwargs)
      rows = {
        name: getattr(batch, name, None) for name in ("sequences", "mismatched")
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
