"""Other columns of the data, which judges get with a response."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign import data
from jalign.data.columns import read_columns
from jalign.data.schema import Prompted, place_of
from jalign.errors import UserError
from jalign.experiment.config.settings import DataSettings
from jalign.feedback.answers import Row


class JudgeRows(NamedTuple):
  """The rows of some prompts.

  Attributes:
    by_source: source of a prompt -> its row.
    facts: what data.json says.
    lines: the same for people.
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

  They are read by themselves, in a second look at the files: no reader of a
  source and no encoded record knows of them.

  Args:
    settings: of the data.
    where: its config key.
    paths: files and folders that the records come from.
    parts: training records, held-out records: of a part's prompts that come
      several times, the first is the one that is sampled for.

  Raises:
    UserError: no row of a file has one of the columns.
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
    line += f"; None stands for what rows lack: {', '.join(missing)}"
  if several:
    line += f"; {several} prompts come with different rows: it sees the first"
  facts = {
    "prompts": len(row_of),
    "lacking": lacking,
    "different_rows": several,
  }
  return JudgeRows(row_of, facts, (line,))


def _several(
  records: Iterable[Prompted], rows: Mapping[str, Mapping[str, Any]]
) -> int:
  """Prompts that come with different rows."""
  first: dict[str, Row] = {}
  other = set()
  for record in records:
    row = rows[place_of(record.source)]
    if first.setdefault(record.prompt, row) != row:
      other.add(record.prompt)
  return len(other)
