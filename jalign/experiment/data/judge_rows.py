"""Reads further columns of the data, which judges get with a response."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign import data
from jalign.data.columns import read_columns
from jalign.data.schema import Prompted, place_of
from jalign.errors import UserError
from jalign.experiment.config.settings import DataSettings
from jalign.feedback.answers import Row


class JudgeRows(NamedTuple):
  """The rows of data that belong to some prompts.

  Attributes:
    by_source: source of a prompt -> its row.
    facts: what data.json says.
    lines: the facts as lines for readers.
  """

  by_source: Mapping[str, Row] = {}
  facts: Mapping[str, Any] = {}
  lines: tuple[str, ...] = ()


def read_judge_rows(
  settings: DataSettings,
  where: str,
  paths: Iterable[str],
  parts: Iterable[Sequence[Prompted]],
) -> JudgeRows:
  """Reads the columns of `settings.judge_columns`.

  The columns are read by themselves, in a second pass over the files: neither
  the sources' readers nor encoded records know of them.

  Args:
    settings: settings of the data.
    where: config key of these settings.
    paths: files and folders that the records come from.
    parts: training records, held-out records. If a part has a prompt several
      times, the first one's row counts, since it is the one sampled for.

  Raises:
    UserError: one of the columns is in no row of a file.
  """
  names = settings.judge_columns
  if not names:
    return JudgeRows()
  key = f"{where}.judge_columns"
  if settings.source == "tldr_world":
    raise UserError(
      "the source 'tldr_world' reads no file that has columns.",
      where=key,
      remedy="Leave the columns out.",
    )
  parts = [list(part) for part in parts]
  places = {place_of(record.source) for part in parts for record in part}
  rows: dict[str, dict[str, Any]] = {}
  for path in paths:
    try:
      rows |= read_columns(path, names, places, settings.data_dir or None)
    except UserError as e:
      raise UserError(
        f"{e.where}: {e.problem}", where=key, remedy=e.remedy
      ) from e
  row_of: dict[str, Row] = {}
  several = 0
  for part in parts:
    for prompt in data.unique_prompts(part):
      row_of[prompt.source] = rows[place_of(prompt.source)]
    several += _several(part, rows)
  lacking = {
    name: count
    for name in names
    if (count := sum(row[name] is None for row in row_of.values()))
  }
  listed = ", ".join(map(repr, names))
  line = f"{where}: the judge sees {listed} of {len(row_of)} prompts"
  if lacking:
    missing = (f"{name!r} of {count}" for name, count in lacking.items())
    line += f"; rows that lack a column have None: {', '.join(missing)}"
  if several:
    line += f"; {several} prompts have different rows: the judge sees the first"
  facts = {
    "prompts": len(row_of),
    "lacking": lacking,
    "different_rows": several,
  }
  return JudgeRows(row_of, facts, (line,))


def _several(
  records: Iterable[Prompted], rows: Mapping[str, Mapping[str, Any]]
) -> int:
  """The number of prompts that come with different rows."""
  first: dict[str, Row] = {}
  other = set()
  for record in records:
    row = rows[place_of(record.source)]
    if first.setdefault(record.prompt, row) != row:
      other.add(record.prompt)
  return len(other)
