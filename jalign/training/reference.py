"""Log-probs under the reference, computed once and kept with a fingerprint."""

import hashlib
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jalign.errors import UserError
from jalign.files import write_whole
from jalign.hosts import once, say
from jalign.logprobs import sequence_logprobs
from jalign.sharding import fetch
from jalign.training.offload import on_device
from jalign.training.progress import follow
from jalign.training.readback import checksums
from jalign.types import Model, Params

Table = Mapping[str, np.ndarray]  # source of an example -> its rows' log-probs


def fingerprint(params: Params, examples: Iterable[tuple]) -> str:
  """A hash of the parameters' bits and of the examples' tokens.

  Args:
    params: reduced on the devices to two checksums per array; no array is
      gathered.
    examples: tuples of a source and token ids, in any nesting.

  Returns:
    32 hexadecimal digits.
  """
  digest = hashlib.sha256()
  sums = fetch(_checksums(params))
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    digest.update(f"{name}{leaf.shape}{leaf.dtype}".encode())
  for leaf in jax.tree.leaves(sums):
    digest.update(np.asarray(leaf).tobytes())
  for example in examples:
    digest.update(repr(example).encode())
  return digest.hexdigest()[:32]


@jax.jit
def _checksums(params):
  return jax.tree.map(checksums, params)


def make_score(model: Model) -> Any:
  """Makes the jitted `(params, sequences) -> [rows]` log-probs, nats."""
  return jax.jit(lambda p, s: sequence_logprobs(model, on_device(p), s))


def compute(
  model: Model,
  params: Params,
  batches: Iterable[Any],
  place: Callable[[Any], Any],
) -> dict[str, np.ndarray]:
  """Log-probs of all rows of all batches, by the source of their example.

  Args:
    model: the reference's functions.
    params: the reference's parameters.
    batches: one epoch of records with `.data.sequences` and `.sources`.
    place: puts a batch on the devices.

  Returns:
    Source -> [rows of an example] float32 log-probs of whole responses, nats.
  """
  score = make_score(model)
  table: dict[str, np.ndarray] = {}
  for batch in follow(batches, "reference log-probs", "batch"):
    data = place(batch.data)
    logps = fetch(score(params, data.sequences))
    logps = logps.reshape(batch.data.weights.shape[0], -1)
    table |= dict(zip(batch.sources, logps))
  return table


def attach(data: Any, sources: Sequence[str], table: Table) -> Any:
  """Sets a batch's `ref_logps`; rows that only fill the batch get 0.

  Args:
    data: the batch.
    sources: sources of its examples, in order.
    table: from `compute`.

  Raises:
    UserError: an example isn't in the table.
    ValueError: there aren't as many sources as examples.
  """
  missing = [source for source in sources if source not in table]
  if missing:
    raise UserError(
      "no reference log-prob was computed for this example.",
      where=missing[0],
      remedy="Delete the run's reference_logps.npz; the run makes it again.",
    )
  examples = data.weights.shape[0]
  rows = data.sequences.tokens.shape[0] // examples
  logps = np.zeros((examples, rows), np.float32)
  live = np.flatnonzero(np.asarray(data.weights) > 0)
  if len(live) != len(sources):
    raise ValueError(f"{len(live)} examples, {len(sources)} sources")
  for at, source in zip(live, sources):
    logps[at] = table[source]
  return data.replace(ref_logps=logps.reshape(-1))


def load(path: pathlib.Path, expected: str) -> dict[str, np.ndarray] | None:
  """The table in a file; None if no file has the fingerprint.

  For a damaged file, a line is printed and None returned, so that the table is
  computed again.
  """
  if not path.exists():
    return None
  try:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
      if str(stored["fingerprint"]) != expected:
        return None
      sources, logps = stored["sources"].tolist(), stored["logps"]
  except Exception as e:  # zip, zlib and NumPy raise errors of their own
    say(f"{path}: the file is damaged ({type(e).__name__}); computed again")
    return None
  return dict(zip(sources, logps))


@once
def store(path: pathlib.Path, table: Table, made_of: str) -> None:
  """Writes a table with its fingerprint, whole or not at all."""
  buffer = io.BytesIO()
  np.savez(
    buffer,
    fingerprint=np.asarray(made_of),
    sources=np.asarray(list(table)),
    logps=np.stack(list(table.values())),
  )
  write_whole(path, buffer.getvalue())
