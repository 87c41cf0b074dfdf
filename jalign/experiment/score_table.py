"""The parquet file of `jalign score`."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from jalign.errors import UserError
from jalign.files import appearing, check_output, telling

_SCHEMA = [
  ("source", pa.string()),
  ("response", pa.string()),
  ("prompt_tokens", pa.int32()),
  ("response_tokens", pa.int32()),
  ("logprob", pa.float64()),
  ("logprob_per_token", pa.float64()),
  ("entropy", pa.float64()),
  ("tokens", pa.list_(pa.int32())),
  ("token_logprobs", pa.list_(pa.float32())),
  ("token_entropies", pa.list_(pa.float32())),
]
_REFERENCE = [
  ("ref_logprob", pa.float64()),
  ("implicit_reward", pa.float64()),
  ("ref_token_logprobs", pa.list_(pa.float32())),
]


@contextlib.contextmanager
def table(out: pathlib.Path, reference: bool) -> Iterator[Callable]:
  """Gives a function that adds rows; the file gets its name at the end."""
  schema = pa.schema(_SCHEMA + (_REFERENCE if reference else []))
  said = "Nothing was written."
  with (
    telling(out.parent, lambda: said, again=""),
    appearing(out) as partial,
    pq.ParquetWriter(partial, schema) as writer,
  ):
    yield lambda rows: writer.write_table(
      pa.Table.from_pylist(rows, schema=schema)
    )


def check_out(out: pathlib.Path, path: str) -> None:
  """Refuses to write over anything but a table of an earlier call."""
  check_output(out, "--out", {"--data": path})
  if not out.exists() or not out.stat().st_size:
    return
  try:
    names = pq.read_schema(out).names
  except Exception:  # whatever pyarrow makes of a foreign file
    names = []
  if "token_logprobs" not in names:
    raise UserError(
      "is there already and is no table of scores.",
      where=f"--out={out}",
      remedy="Name another file.",
    )
