"""States of sequences' last tokens, which score heads read.

Sequences that share their prompt, as the responses to one prompt do, lie in one
row, which holds the prompt once, wherever that is less work. (A row has fewer
tokens then, but attention computes with all pairs of its tokens.)
"""

import collections
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.models import ModelConfig, hf
from jalign.sharding import fetch, place
from jalign.training import packed
from jalign.types import Array, Model, Params, Sequences

_SHORTEST = 32  # tokens of the shortest bucket; each other bucket doubles
_MOST = 16  # responses of a row
_WIDEST = 4096  # slots of a row
_SAVING = 0.8  # largest share of the work with which sharing is worth it


class Work(NamedTuple):
  """What was computed.

  Attributes:
    tokens: number of tokens of all sequences.
    slots: number of tokens that the model read, with padding.
    alone: number of tokens that it would read with each sequence in a row of
      its own.
  """

  tokens: int
  slots: int
  alone: int


class _Batch(NamedTuple):
  """A batch: which sequence each of its rows has, and its arrays."""

  members: list[int]
  sequences: Sequences
  slots: int
  alone: int


def last_states(
  model: Model,
  params: Params,
  config: ModelConfig,
  sequences: Sequence[data.EncodedSequence],
  mesh: jax.sharding.Mesh,
  *,
  rows: int,
  pad_id: int,
  padding: int | None = None,
  share: bool = True,
) -> tuple[np.ndarray, Work]:
  """States of the tokens that a score head reads.

  Sequences are sorted by length into buckets, so that there are few shapes to
  compile for and little padding.

  Args:
    model: the model's functions.
    params: its parameters.
    config: its config.
    sequences: N sequences of ids. Those whose ids before the first scored token
      are the same share them.
    mesh: the mesh that the parameters lie on.
    rows: number of sequences of a batch, rounded up to what the mesh divides.
    pad_id: id that fills rows.
    padding: as in `jalign.models.hf.StoredHead`.
    share: False computes every sequence by itself.

  Returns:
    [N, D] float32 states, and what was computed.
  """
  ways = mesh.shape["data"] * mesh.shape["fsdp"]
  read = _reader(model, padding)
  out: Any = np.zeros((len(sequences), config.hidden_size), np.float32)
  slots = alone = 0
  share = share and dict(config.rope_scaling).get("rope_type") != "dynamic"
  together = _shared(sequences, config.hidden_size) if share else []
  for batch in _batches(sequences, together, rows, ways, pad_id):
    with jax.set_mesh(mesh):
      states = fetch(read(params, place(batch.sequences, mesh)))
    out[batch.members] = states[: len(batch.members)]
    slots, alone = slots + batch.slots, alone + batch.alone
  return out, Work(sum(map(data.sequence_length, sequences)), slots, alone)


@functools.lru_cache(maxsize=8)
def _reader(model: Model, padding: int | None) -> Any:
  """The jitted `(params, sequences) -> [B, D]` states that are read."""

  @jax.jit
  def read(params: Params, sequences: Sequences) -> Array:
    sequences = hf.unpadded(sequences, padding)
    states = packed.last_states(model, params, sequences)
    return states.astype(jax.numpy.float32)

  return read


def _batches(
  sequences: Sequence[data.EncodedSequence],
  together: list[list[int]],
  rows: int,
  ways: int,
  pad_id: int,
) -> Iterator[_Batch]:
  """Yields batches that have every sequence, those of a group in one row."""
  by_size = collections.defaultdict(list)
  for unit in together:
    by_size[len(unit)].append(unit)
  left = {*range(len(sequences))} - {i for unit in together for i in unit}
  by_size[1] = [[i] for i in sorted(left)]
  up = lambda count: -(-count // ways) * ways
  for size, units in sorted(by_size.items()):
    if not units:
      continue
    count = up(min(-(-rows // size), len(units)))
    # Rows of several sequences are as wide as those need; see `_width`.
    sizes = [_width([sequences[i] for i in unit]) for unit in units]
    if size == 1:
      sizes = [_bucket(x) for x in sizes]
    for batch in data.plan(sizes, count, sorted({*sizes}), shuffle=False):
      members = [i for at in batch.examples for i in units[at]]
      some = [sequences[i] for i in members]
      length = max(_bucket(data.sequence_length(x)) for x in some)
      fill = some[:size] * (count - len(batch.examples))
      record = data.collate_sequences(
        some + fill, count * size, length, pad_id=pad_id
      ).sequences
      slots = count * length
      own = {*members}
      alone = sum(_bucket(data.sequence_length(sequences[i])) for i in own)
      if size > 1:
        record = data.pack(
          record,
          np.ones(count, bool),
          width=batch.length,
          rows=count // ways,
          groups=ways,
          share_prefix=True,
        )
        assert record.packed is not None
        slots = record.packed.tokens.size
      yield _Batch(members, record, slots, alone)


def _shared(
  sequences: Sequence[data.EncodedSequence], hidden_size: int
) -> list[list[int]]:
  """Groups of sequences for which a row with one prompt is less work."""
  groups = collections.defaultdict(list)
  for i, sequence in enumerate(sequences):
    groups[_prompt(sequence).tobytes()].append(i)
  parts = [
    _filled(group[at : at + _MOST])
    for group in groups.values()
    for at in range(0, len(group), _MOST)
  ]

  def worth(part: list[int]) -> bool:
    some = [sequences[i] for i in part]
    alone = sum(
      _work(_bucket(data.sequence_length(sequences[i])), hidden_size)
      for i in {*part}
    )
    width = _width(some)
    shared = _work(width, hidden_size)
    return len(part) > 1 and width <= _WIDEST and shared <= _SAVING * alone

  return [part for part in parts if worth(part)]


def _filled(part: list[int]) -> list[int]:
  """A group, with its first member repeated up to a power of 2.

  With few sizes of groups there are few shapes to compile for.
  """
  return part + part[:1] * ((1 << (len(part) - 1).bit_length()) - len(part))


def _prompt(sequence: data.EncodedSequence) -> np.ndarray:
  """The ids before the first scored token."""
  scored = np.flatnonzero(sequence.mask)
  return sequence.ids[: scored[0] if len(scored) else 0]


def _width(some: Sequence[data.EncodedSequence]) -> int:
  """Slots of a row that holds some sequences and their prompt once."""
  own = len(_prompt(some[0]))
  # Each response begins with a copy of the prompt's last token; see data.pack.
  once = max(own - 1, 0)
  size = once + sum(data.sequence_length(x) - once for x in some)
  power = _bucket(size)
  return power * 3 // 4 if size <= power * 3 // 4 else power


def _work(slots: int, hidden_size: int) -> int:
  """Work of a row, up to a factor of the model.

  A block multiplies each slot by about 12 D^2 weights, and attention takes 2 D
  products for each two slots: 12 D^2 n + 2 D n^2.
  """
  return slots * (6 * hidden_size + slots)


def _bucket(length: int) -> int:
  return max(_SHORTEST, 1 << (length - 1).bit_length())
