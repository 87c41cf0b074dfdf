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
  columns    names that the file has for the source's fields, {"prompt":
             "question"}: field -> column; "a.b" is b of the object a.

All raise UserError where the data cannot be read or has no usable row, and,
with "error", where a row is bad. Blank lines are passed over; line numbers
count them. Fields that aren't read are counted in the report. A row's "tools"
and "chat_template_kwargs" go to the template as they are, where it reads them.

In the objects of a field, at any depth, a key whose value is null is a key that
isn't there: containers of columns give every object every key.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from jalign.data.chat import ChatTemplate
from jalign.data.columns import Columns, Renamed
from jalign.data.containers import Path, Rows, rows_of
from jalign.data.plain import parsed_field, plain
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
  columns: Columns | None = None,
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
    columns: of the file, by field.
    regroup: makes other rows of a container's; None takes them as they are.

  Returns:
    (records, report), records in the order of the rows.

  Raises:
    UserError: the container cannot be read or has no usable row, `columns`
      names none of its columns, or, with on_error="error", a row is bad.
  """
  if on_error not in ("error", "skip"):
    raise UserError(
      f"on_error is {on_error!r}.", remedy='Give "error" or "skip".'
    )
  records: list[Record] = []
  skipped: list[Skipped] = []
  left_out: list[Skipped] = []
  ignored, count = Counter[str](), 0
  known = set(fields)
  renamed = Renamed(columns or {}, {*known, *VARIABLES})
  rows = renamed.rows(rows_of(path, data_dir, renamed.wanted))
  rows = _plain(rows, {*known, *VARIABLES})
  for where, row in regroup(rows) if regroup else rows:
    count += 1
    parts: list[str] = []
    try:
      if isinstance(row, BadRow):
        raise row
      made = parse(row, where, parts.append)
    except BadRow as bad:
      reason, problem, remedy = bad.args
      if on_error == "error":
        if reason == "missing":  # its column may have another name
          renamed.check(os.fspath(path))
        raise UserError(problem, where=where, remedy=remedy) from None
      skipped.append(Skipped(where, reason, problem))
      continue
    records += made
    left_out += (Skipped(where, part) for part in parts)
    ignored.update(
      key for key, v in row.items() if key not in known and v is not None
    )
  if count:
    renamed.check(os.fspath(path))
  ignored.update(renamed.hidden)
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
      remedy="Check that it is the right file, the right source and, where"
      " one is given, the right chat template.",
    )
  return records, report


# What a row tells its template, beside its messages: TRL's names.
VARIABLES = _TOOLS, _MORE = "tools", "chat_template_kwargs"

# What only the reader says to a template.
_OWN = frozenset(
  {
    "messages",
    "conversations",
    "chat_template",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "return_assistant_tokens_mask",
  }
)


def told(template: ChatTemplate | None) -> tuple[str, ...]:
  """Those of `VARIABLES` that a template reads."""
  if template is None:
    return ()
  return VARIABLES if _TOOLS in template.text else (_MORE,)


def _plain(rows: Rows, fields: Collection[str]) -> Rows:
  """Yields the same rows, their fields plain values."""
  for where, row in rows:
    if not isinstance(row, BadRow):
      try:
        row = row | {
          name: plain(row[name], name) for name in fields if name in row
        }
      except BadRow as bad:
        row = bad
    yield where, row


def variables_of(row: dict[str, Any]) -> dict[str, Any]:
  """A row's own variables of the chat template: its tools, and others.

  Raises:
    BadRow: tools are no list of objects, or the others no object of names that
      a row may say.
  """
  tools, more = (_value(row.get(name), name) for name in VARIABLES)
  if isinstance(tools, list):
    tools = [_value(tool, _TOOLS) for tool in tools]
  listed = isinstance(tools or [], list)
  for name, fits, said in (
    (
      _TOOLS,
      listed and all(isinstance(tool, dict) for tool in tools or ()),
      "a list of objects",
    ),
    (_MORE, isinstance(more or {}, dict), "an object"),
  ):
    if not fits:
      raise BadRow(
        "type",
        f"field {name!r} is not {said}.",
        f"Write it as {said}, or as JSON of one. {SKIP}",
      )
  for name in more or ():
    if name in _OWN or name.endswith("_token"):
      raise BadRow(
        "template",
        f"field {_MORE!r} sets {name!r}, which no row can.",
        f"Leave it out. {SKIP}",
      )
  return ({_TOOLS: tools} if tools else {}) | (more or {})


def _value(value: Any, field: str) -> Any:
  """JSON is read, where a container has one type a column."""
  return parsed_field(value, field) if isinstance(value, str) else value


def for_row(
  template: ChatTemplate | None, row: dict[str, Any]
) -> ChatTemplate | None:
  """The template with a row's own variables."""
  return template and template.given(variables_of(row))


def to_record(
  parse: Callable[[dict[str, Any], str, ChatTemplate | None], Any],
  template: Template,
) -> Parse[Any]:
  """`parse` for rows that become one record each, nothing left out."""
  chat = as_template(template)
  return lambda row, where, note: [parse(row, where, for_row(chat, row))]


def as_template(template: Template) -> ChatTemplate | None:
  """The template that an argument names; None stays None."""
  return None if template is None else load_template(template)
