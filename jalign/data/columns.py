"""Renames a file's columns to a source's fields, and reads single columns."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jalign.data.arrow import Rows
from jalign.data.containers import Path, rows_of
from jalign.data.plain import plain
from jalign.data.rows import BadRow, quoted
from jalign.errors import UserError, nearest

# Field of a source -> column of the file; "a.b" is field b of the object a,
# unless the file has a column "a.b".
Columns = Mapping[str, str]


class Renamed:
  """Gives a file's columns the names that a source knows.

  Attributes:
    wanted: columns to read from the file.
    hidden: a source's fields that the file itself has, although a column of
      another name stands in for them -> number of rows that have them.
  """

  def __init__(self, columns: Columns, fields: Collection[str]):
    """Checks the names.

    Args:
      columns: column of the file, by field of the source.
      fields: all fields that the source reads.

    Raises:
      UserError: `columns` has a field that the source doesn't read, or a column
        that isn't a name.
    """
    for field, column in columns.items():
      if field not in fields:
        raise UserError(
          f"the source reads no field {quoted(field)}.",
          where="columns",
          remedy=nearest(field, fields),
        )
      if not isinstance(column, str) or not column:
        raise UserError(
          f"{quoted(column)} names no column.", where=f"columns.{field}"
        )
    self._columns = dict(columns)
    self._unseen = set(columns.values())
    self._names: dict[str, None] = {}  # columns of the file, in order
    self.hidden: Counter[str] = Counter()
    self.wanted = {f for f in fields if f not in columns}
    for column in columns.values():
      self.wanted |= {column, column.partition(".")[0]}

  def rows(self, rows: Rows) -> Rows:
    """Yields rows with the source's names; bad rows stay as they are."""
    for where, row in rows:
      yield where, row if isinstance(row, BadRow) else self.row(row)

  def row(self, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the source's names."""
    if not self._columns:
      return row
    renamed, taken = {}, set()
    for field, column in self._columns.items():
      for top, value in _at(row, column):
        renamed[field] = value
        taken.add(top)
        self._unseen.discard(column)
    if self._unseen and len(self._names) < 1000:
      self._names |= dict.fromkeys(row)
    self.hidden.update(
      name
      for name in self._columns
      if row.get(name) is not None and name not in taken
    )
    return {
      name: value
      for name, value in row.items()
      if name not in taken and name not in self._columns
    } | renamed

  def named(self, problem: str) -> str:
    """A sentence on a row's fields, with the columns that hold the fields."""

    def named(found: re.Match[str]) -> str:
      field = found[2]
      column = quoted(self._columns.get(field, field))
      if not found[1] or field not in self._columns:
        return f"{found[1] or ''}{column}"
      return f"column {column} (field {field!r})"

    return re.sub(r"(field )?'(\w+)'", named, problem)

  def check(self, path: str) -> None:
    """Raises UserError if one of the columns was in none of the rows."""
    for field, column in self._columns.items():
      if column in self._unseen:
        raise UserError(
          f"the file has no column {quoted(column)}, which is to be {field!r}.",
          where=path,
          remedy=nearest(column, self._names),
        )


def read_columns(
  path: Path,
  names: Collection[str],
  places: Collection[str],
  data_dir: Path | None = None,
) -> dict[str, dict[str, Any]]:
  """Reads single columns of a container, whatever source reads its rows.

  Args:
    path: as in `containers.rows_of`.
    names: names of columns; "a.b" is field b of the object a.
    places: places of the rows that are wanted, "path:number".
    data_dir: folder of prepared TFDS data.

  Returns:
    Place -> {name: value}; a value that a row lacks is None.

  Raises:
    UserError: the container can't be read, none of its rows has one of the
      columns, or a value can't be written as JSON.
  """
  wanted = {part for name in names for part in (name, name.partition(".")[0])}
  places, unseen = set(places), set(names)
  read, others = {}, dict[str, None]()
  for where, row in rows_of(path, data_dir, wanted):
    if isinstance(row, BadRow):
      continue
    values = {n: value for n in names for _, value in _at(row, n)}
    unseen -= values.keys()
    if unseen and len(others) < 1000:
      others |= dict.fromkeys(row)
    if where in places:
      try:
        read[where] = {n: plain(values.get(n), n) for n in names}
      except BadRow as bad:
        raise UserError(bad.args[1], where=where) from None
  for name in names:
    if name in unseen:
      raise UserError(
        f"no row has the column {quoted(name)}.",
        where=os.fspath(path),
        remedy=nearest(name, others),
      )
  return read


def _at(row: dict[str, Any], column: str) -> Iterator[tuple[str, Any]]:
  """Yields (top name in the row, value) of a column, if the row has it."""
  if column in row:
    yield column, row[column]
    return
  top, *path = column.split(".")
  value: Any = row.get(top)
  for name in path:
    if not isinstance(value, dict) or name not in value:
      return
    value = value[name]
  if path:
    yield top, value
