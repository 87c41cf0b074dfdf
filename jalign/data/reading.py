"""The frame of every reader: rows become records, and the books are kept.

Which rows a reader takes is its shape; where the rows lie doesn't matter (see
`containers`): JSON lines, parquet, a saved Hugging Face dataset, or prepared
TFDS data. Every reader is `(path, on_error, ...) -> (records, report)`:

  path       a file, a folder, or "tfds:NAME[/CONFIG][:SPLIT]".
  on_error   "error" raises at the first bad row and names its file and line;
             "skip" counts bad rows and lists them, by reason, in the report.
  template   how conversations are written: a `ChatTemplate`, or what
             `load_template` takes. Rows of messages need one. Rows of plain
             text go through it as a user's turn and an assistant's, or stay as
             they are, spaces and all, where there is none.
  data_dir   folder of prepared TFDS data.

All raise UserError where the data cannot be read or has no usable row, and,
with "error", where a row is bad. Blank lines are passed over; line numbers
count them. Fields that aren't read are counted in the report. A row's "tools"
and "chat_template_kwargs" go to the template as they are.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from jalign.data.chat import ChatTemplate
from jalign.data.containers import Path, Rows, rows_of
from jalign.data.rows import SKIP, BadRow
from jalign.data.schema import Report, Skipped
from jalign.data.templates import load_template
from jalign.errors import UserError

Template = ChatTemplate | str | os.PathLike[str] | None
Record = TypeVar("Record")
Note = Callable[[str], None]  # notes a part that is left out, by its reason

# Makes one row's records: (row, "file:line", note) -> records; or BadRow.
Parse = Callable[[dict[str, Any], str, Note], list[Record]]


def read_rows(
  path: Path,
  on_error: str,
  parse: Parse[Record],
  fields: Collection[str],
  noun: str,
  data_dir: Path | None = None,
  regroup: Callable[[Rows], Rows] | None = None,
) -> tuple[list[Record], Report]:
  """Applies `parse` to the rows of a container.

  Args:
    path: as `containers.rows_of`.
    on_error: "error" raises at the first bad row; "skip" counts them.
    parse: makes the records of a row.
    fields: names that `parse` reads; others are counted as ignored.
    noun: what a row is, in the plural.
    data_dir: of prepared TFDS data.
    regroup: makes other rows of a container's; None takes them as they are.

  Returns:
    (records, report), records in the order of the rows.

  Raises:
    UserError: the container cannot be read or has no usable row, or, with
      on_error="error", a row is bad.
  """
  if on_error not in ("error", "skip"):
    raise UserError(
      f"on_error is {on_error!r}.", remedy='Give "error" or "skip".'
    )
  records: list[Record] = []
  skipped: list[Skipped] = []
  left_out: list[Skipped] = []
  ignored, count = Counter[str](), 0
  known = {*fields, _TOOLS, _MORE}
  rows = rows_of(path, data_dir)
  for where, row in regroup(rows) if regroup else rows:
    count += 1
    parts: list[str] = []
    try:
      if isinstance(row, BadRow):
        raise row
      found = parse(row, where, parts.append)
    except BadRow as bad:
      reason, problem, remedy = bad.args
      if on_error == "error":
        raise UserError(problem, where=where, remedy=remedy) from None
      skipped.append(Skipped(where, reason, problem))
      continue
    records += found
    left_out += (Skipped(where, part) for part in parts)
    ignored.update(
      key for key, v in row.items() if key not in known and v is not None
    )
  used = count - len(skipped)
  report = Report(
    path=os.fspath(path),
    read=count,
    used=used,
    skipped=tuple(skipped),
    ignored=tuple(sorted(ignored.items())),
    noun=noun,
    left_out=tuple(left_out),
    records=None if len(records) == used else len(records),
  )
  if not records:
    first = f" {skipped[0].where}: {skipped[0].problem}" if skipped else ""
    raise UserError(
      f"no usable row ({report.summary()}).{first}",
      where=os.fspath(path),
      remedy="Check that it is the right file and the right source.",
    )
  return records, report


# What a row tells its template, beside its messages: TRL's names.
_TOOLS, _MORE = "tools", "chat_template_kwargs"


def variables_of(row: dict[str, Any]) -> dict[str, Any]:
  """A row's own variables of the chat template: its tools, and others.

  Raises:
    BadRow: tools are no list, or the others no object.
  """
  found = dict.fromkeys((_TOOLS, _MORE))
  for name, kind, said in (
    (_TOOLS, list, "a list"),
    (_MORE, dict, "an object"),
  ):
    value = row.get(name)
    if isinstance(value, str):  # JSON, where a container has one type a column
      with contextlib.suppress(ValueError):
        value = json.loads(value)
    if value is not None and not isinstance(value, kind):
      raise BadRow(
        "type",
        f"field {name!r} is {type(value).__name__}, not {said}.",
        f"Write it as {said}, or as JSON of one. {SKIP}",
      )
    found[name] = value
  tools = {_TOOLS: found[_TOOLS]} if found[_TOOLS] else {}
  return {**tools, **(found[_MORE] or {})}


def for_row(
  template: ChatTemplate | None, row: dict[str, Any]
) -> ChatTemplate | None:
  """The template with a row's own variables."""
  return template and template.given(variables_of(row))


def one(
  parse: Callable[[dict[str, Any], str, ChatTemplate | None], Any],
  template: Template,
) -> Parse[Any]:
  """`parse` for rows that become one record each, nothing left out."""
  chat = as_template(template)
  return lambda row, where, note: [parse(row, where, for_row(chat, row))]


def as_template(template: Template) -> ChatTemplate | None:
  """The template that an argument names; None stays None."""
  return None if template is None else load_template(template)
