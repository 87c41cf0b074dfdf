"""The parquet file of `jalign score`."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jalign.errors import UserError
from jalign.files import appearing, check_output, telling

_RESPONSE = [
  ("source", pa.string()),
  ("name", pa.string()),
  ("prompt", pa.string()),
  ("response", pa.string()),
  ("model", pa.string()),
  ("prompt_tokens", pa.int32()),
  ("response_tokens", pa.int32()),
  ("tokens", pa.list_(pa.int32())),
]
_POLICY = [
  ("logprob", pa.float64()),
  ("logprob_per_token", pa.float64()),
  ("entropy", pa.float64()),
  ("token_logprobs", pa.list_(pa.float32())),
  ("token_entropies", pa.list_(pa.float32())),
]
_REFERENCE = [
  ("ref_logprob", pa.float64()),
  ("implicit_reward", pa.float64()),
  ("ref_token_logprobs", pa.list_(pa.float32())),
]
_FACTS = b"jalign"  # key of the file's metadata


@contextlib.contextmanager
def table(
  out: pathlib.Path,
  facts: Mapping[str, Any],
  *,
  scores: Sequence[str] = (),
  reference: bool = False,
) -> Iterator[Callable]:
  """Gives a function that adds rows; the file gets its name at the end.

  Args:
    out: the file.
    facts: what made the rows, for the file's metadata; "model" is also in rows.
    scores: columns of a reward or preference model; () for a policy.
    reference: whether a policy has a reference.
  """
  own = [(name, pa.float64()) for name in scores]
  if not scores:
    own = _POLICY + (_REFERENCE if reference else [])
  schema = pa.schema(
    _RESPONSE + own, metadata={_FACTS: json.dumps(facts).encode()}
  )
  said = "Nothing was written."
  with (
    telling(out.parent, lambda: said, again=""),
    appearing(out) as partial,
    pq.ParquetWriter(partial, schema) as writer,
  ):

    def write(rows):
      rows = [row | {"model": facts["model"]} for row in rows]
      writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    yield write


def check_out(out: pathlib.Path, path: str) -> None:
  """Raises UserError unless the file is missing, empty or such a table."""
  check_output(out, "--out", {"--data": path})
  if not out.exists() or not out.stat().st_size:
    return
  try:
    schema = pq.read_schema(out)
    ours = _FACTS in (schema.metadata or {}) or "token_logprobs" in schema.names
  except Exception:  # whatever a foreign file makes pyarrow raise
    ours = False
  if not ours:
    raise UserError(
      "the file is there already and is no table of scores.",
      where=f"--out={out}",
      remedy="Name another file.",
    )
