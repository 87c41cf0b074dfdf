"""Yields batches in a planned order: deterministic, sharded, resumable.

`plan` is a pure function of lengths, seed and epoch. It puts every example in
the shortest bucket that holds it, shuffles within buckets, cuts batches of one
size (a bucket's last batch is filled up with weight 0) and shuffles the
batches. So each example comes once per epoch, all batches of a bucket have one
shape, and batch number i can be computed without its predecessors: grain reads
the plan as a random-access source, and a position in it is one number.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jalign.data.encode import pair_length
from jalign.data.fingerprint import fingerprint_of
from jalign.errors import UserError


class PlannedBatch(NamedTuple):
  """A global batch.

  Attributes:
    length: T, tokens of its rows: the bucket's length.
    examples: indices of its examples; other rows only fill the batch.
  """

  length: int
  examples: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
  """What a loader yields.

  Attributes:
    index: number of the batch, counted from the start of the first epoch.
    data: the collate function's batch, of NumPy arrays.
    sources: "file:line" of each row that holds an example, in order.
  """

  index: int
  data: Any
  sources: tuple[str, ...]


class LoaderReport(NamedTuple):
  """The shapes of an epoch.

  Attributes:
    batches: bucket length -> number of batches per epoch.
    examples: bucket length -> number of examples.
    fill: number of rows per epoch that only fill batches.
    padding: share, in [0, 1], of the tokens in an epoch's rows (fill rows
      included) that are no example's own; for pairs, of the longer row.
  """

  batches: dict[int, int]
  examples: dict[int, int]
  fill: int
  padding: float

  def summary(self) -> str:
    """One line: batches by bucket, fill rows and padding."""
    parts = [f"{n} of length {length}" for length, n in self.batches.items()]
    return (
      f"{sum(self.batches.values())} batches an epoch ({', '.join(parts)}), "
      f"{self.fill} fill rows, {self.padding:.1%} of the tokens are padding"
    )

  def to_dict(self) -> dict[str, Any]:
    """The report as plain values for a JSON file."""
    return {
      "batches": {str(k): v for k, v in self.batches.items()},
      "examples": {str(k): v for k, v in self.examples.items()},
      "fill": self.fill,
      "padding": self.padding,
    }


def plan(
  lengths: Sequence[int],
  batch_size: int,
  buckets: Sequence[int],
  *,
  seed: int = 0,
  epoch: int = 0,
  shuffle: bool = True,
) -> list[PlannedBatch]:
  """The batches of an epoch; every example is in exactly one of them.

  Args:
    lengths: tokens of each example.
    batch_size: examples of a batch.
    buckets: padded lengths, ascending.
    seed: seed of the order, in [0, 2^32).
    epoch: number of the epoch, each of which has its own order.
    shuffle: False keeps the examples' order within a bucket, and puts the
      buckets in ascending order.

  Raises:
    UserError: an example is longer than the longest bucket; or the buckets, the
      batch size or the seed are out of range.
  """
  _check(batch_size, buckets, seed)
  members = _members(lengths, buckets)
  batches = []
  for number, (length, examples) in enumerate(members.items(), 1):
    if shuffle:
      examples = np.random.default_rng([seed, epoch, number]).permutation(
        examples
      )
    for start in range(0, len(examples), batch_size):
      rows = tuple(examples[start : start + batch_size].tolist())
      batches.append(PlannedBatch(length, rows))
  if shuffle:
    # Stream 0 orders the batches; streams 1, 2, ... are the buckets'.
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(batches))
    batches = [batches[i] for i in order]
  return batches


def batches_per_epoch(
  lengths: Sequence[int], batch_size: int, buckets: Sequence[int]
) -> int:
  """How many batches `plan` makes; Args and Raises as there."""
  _check(batch_size, buckets, 0)
  members = _members(lengths, buckets).values()
  return sum(-(-len(examples) // batch_size) for examples in members)


class Loader:
  """An iterator over batches with a position that can be saved; see
  `make_loader`.

  Attributes:
    report: the shapes of an epoch.
  """

  def __init__(self, dataset: Any, report: LoaderReport, fingerprint: Any):
    self._iterator = iter(dataset)
    self._hash = fingerprint
    self._fingerprint = fingerprint(True)
    self.report = report

  def __iter__(self) -> "Loader":
    return self

  def __next__(self) -> Batch:
    return next(self._iterator)

  def get_state(self) -> dict[str, Any]:
    """The position after the last batch yielded, as values for JSON.

    The state is the same on every process, and may be restored with another
    number of processes.
    """
    return {
      "position": self._iterator.get_state(),
      "fingerprint": self._fingerprint,
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues from a position, with the batch that followed it.

    Args:
      state: what `get_state` returned.

    Raises:
      UserError: the state belongs to other data, or to another order.
    """
    there = state["fingerprint"]
    # Positions saved before 0.2.0 have the hash without separators.
    if there != self._fingerprint and there != self._hash(False):
      raise UserError(
        "the saved position belongs to other data, or to another seed, batch "
        "size or set of buckets.",
        where="data loader",
        remedy="Resume with the settings of the interrupted run, or start a "
        "new one.",
      )
    self._iterator.set_state(state["position"])

  def close(self) -> None:
    """Stops the threads that read ahead; optional."""
    self._iterator.close()


def make_loader(
  encoded: Sequence[Any],
  collate_fn: Callable[..., Any],
  *,
  batch_size: int,
  buckets: Sequence[int],
  seed: int = 0,
  epochs: int | None = None,
  shuffle: bool = True,
  length_of: Callable[[Any], int] = pair_length,
  prefetch: int = 4,
) -> Loader:
  """Makes an iterator over the batches of `plan`, epoch after epoch.

  Every process of a run makes the same batches, and puts on its devices the
  rows that belong there (`jalign.sharding.place`). So the order doesn't depend
  on the number of processes, and neither does what depends on a whole batch,
  such as packed rows and KTO's responses to other prompts.

  Args:
    encoded: the examples, the same and in the same order on every process;
      each has a `source`.
    collate_fn: like `collate_pairs`: `(examples, rows, length, fill=example)`.
      Give the padding id by `functools.partial(collate_pairs, pad_id=...)`.
    batch_size: examples (such as pairs) of a global batch.
    buckets: padded lengths in tokens, ascending.
    seed: seed of the order.
    epochs: number of epochs; None repeats forever.
    shuffle: whether to shuffle; False for evaluation.
    length_of: tokens of an example's longest row, say `list_length`.
    prefetch: batches that threads make ahead; 0 for none.

  Raises:
    UserError: as in `plan`; or there is no example.
  """
  # Not at the top: encoding and collating work where grain isn't installed.
  import grain

  if not encoded:
    raise UserError("there is no example to load.", remedy="Check the split.")
  if epochs is not None and epochs < 1:
    raise UserError(f"epochs is {epochs}.", remedy="Give 1 or more, or None.")
  lengths = [length_of(example) for example in encoded]
  buckets = tuple(buckets)
  _check(batch_size, buckets, seed)
  for example, length in zip(encoded, lengths):
    if length > buckets[-1]:
      raise _too_long(length, buckets, example.source)
  count = batches_per_epoch(lengths, batch_size, buckets)
  source = _Source(
    encoded=encoded,
    collate=functools.partial(
      collate_fn, fill=encoded[int(np.argmin(lengths))]
    ),
    epoch=functools.lru_cache(maxsize=2)(
      lambda epoch: plan(
        lengths, batch_size, buckets, seed=seed, epoch=epoch, shuffle=shuffle
      )
    ),
    rows=batch_size,
    per_epoch=count,
    total=sys.maxsize if epochs is None else count * epochs,
  )
  source.epoch(0)  # raise errors now rather than in a thread
  threads = min(prefetch, 2)
  dataset = grain.MapDataset.source(source).to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
  )
  names = [re.split(r"[/\\]", example.source)[-1] for example in encoded]
  order = (names, lengths, batch_size, buckets, seed, bool(shuffle))
  fingerprint = functools.partial(fingerprint_of, encoded, order)
  shapes = _report(lengths, batch_size, buckets)
  return Loader(dataset, shapes, fingerprint)


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
  """Random access to the batches, for grain."""

  encoded: Sequence[Any]
  collate: Callable[..., Any]
  epoch: Callable[[int], list[PlannedBatch]]
  rows: int
  per_epoch: int
  total: int

  def __len__(self) -> int:
    return self.total

  def __getitem__(self, index: int) -> Batch:
    epoch, at = divmod(index, self.per_epoch)
    length, examples = self.epoch(epoch)[at]
    own = [self.encoded[i] for i in examples]
    data = self.collate(own, self.rows, length)
    return Batch(index, data, tuple(example.source for example in own))


def _check(batch_size: int, buckets: Sequence[int], seed: int) -> None:
  if batch_size < 1:
    raise UserError(f"batch_size is {batch_size}.", remedy="Give 1 or more.")
  ascending = all(a < b for a, b in zip(buckets, buckets[1:]))
  if not buckets or buckets[0] < 1 or not ascending:
    raise UserError(
      f"buckets are {tuple(buckets)}.",
      remedy="Give one or more lengths in tokens, ascending.",
    )
  if not 0 <= seed < 2**32:
    raise UserError(f"seed is {seed}.", remedy="Give 0 .. 2^32 - 1.")


def _too_long(length: int, buckets: Sequence[int], where: str) -> UserError:
  return UserError(
    f"the example has {length} tokens; the longest bucket has {buckets[-1]}.",
    where=where,
    remedy="Add a longer bucket, or truncate to it when encoding.",
  )


def _members(
  lengths: Sequence[int], buckets: Sequence[int]
) -> dict[int, np.ndarray]:
  """Bucket length -> indices of its examples, without empty buckets."""
  sizes = np.asarray(lengths, np.int64)
  bucket_of = np.searchsorted(np.asarray(buckets), sizes)
  if len(sizes) and bucket_of.max() == len(buckets):
    longest = int(sizes.argmax())
    raise _too_long(int(sizes[longest]), buckets, f"example {longest}")
  return {
    int(length): np.flatnonzero(bucket_of == number)
    for number, length in enumerate(buckets)
    if (bucket_of == number).any()
  }


def _report(lengths, batch_size, buckets) -> LoaderReport:
  members = _members(lengths, buckets)
  batches = {k: -(-len(v) // batch_size) for k, v in members.items()}
  rows = sum(batches.values()) * batch_size
  tokens = sum(n * batch_size * length for length, n in batches.items())
  return LoaderReport(
    batches=batches,
    examples={k: len(v) for k, v in members.items()},
    fill=rows - len(lengths),
    padding=1 - sum(lengths) / tokens,
  )
