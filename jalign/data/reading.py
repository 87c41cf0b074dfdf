"""What all readers have in common: rows become records, and a report is kept.

Which rows a reader takes is its shape. Where the rows lie doesn't matter (see
`containers`): JSON lines, parquet, a saved Hugging Face dataset, or prepared
TFDS data. Every reader is `(path, on_error, ...) -> (records, report)`:

  path       a file, a folder, or "tfds:NAME[/CONFIG][:SPLIT]".
  on_error   "error" raises at the first bad row and names its file and line;
             "skip" leaves bad rows out and lists them, by reason, in the
             report.
  template   how conversations are written: a `ChatTemplate`, or what
             `load_template` takes. Rows of messages need a template. With one,
             plain texts are written as a user's turn and an assistant's;
             without, they stay as they are, spaces and all.
  data_dir   folder of prepared TFDS data.
  columns    the file's column for fields of the source, as in {"prompt":
             "question"}; a column "a.b" is field b of the object a.

All readers raise UserError if the data cannot be read or has no usable row and,
with "error", where a row is bad. Blank lines are passed over; line numbers
count them. The report counts fields that aren't read. A row's "tools" and
"chat_template_kwargs" go to the template as they are, if it reads them.

In the objects of a field, at any depth, a key whose value is null counts as
missing, since containers of columns give every object every key.
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
Note = Callable[[str], None]  # called with the reason that a part is left out

# Makes the records of a row, or raises BadRow: (row, "file:line", note).
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
    path: as in `containers.rows_of`.
    on_error: "error" raises at the first bad row; "skip" counts bad rows.
    parse: makes the records of a row.
    fields: names of the fields that `parse` reads; the report counts others.
    noun: what a row is, in the plural.
    data_dir: folder of prepared TFDS data.
    columns: column of the file, by field.
    regroup: turns the container's rows into other rows; None leaves them as
      they are.

  Returns:
    (records in the order of the rows, report).

  Raises:
    UserError: the container cannot be read or has no usable row, `columns`
      names a column that the file lacks, or, with on_error="error", a row is
      bad.
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
      if reason == "missing" and columns:
        problem, remedy = renamed.named(problem), SKIP
      if on_error == "error":
        if reason == "missing":  # the field's column may have another name
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
      remedy="Check that this is the right file, the right source and, where"
      " a chat template is given, the right template.",
    )
  return records, report


# Fields of a row that its template reads beside the messages, named as in TRL.
VARIABLES = _TOOLS, _MORE = "tools", "chat_template_kwargs"

# Names that only the reader sets for a template.
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
  """Names out of `VARIABLES` that a template may read."""
  if template is None:
    return ()
  return VARIABLES if _TOOLS in template.text else (_MORE,)


def _plain(rows: Rows, fields: Collection[str]) -> Rows:
  """Yields the rows with plain values in their fields."""
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
  """A row's own variables for the chat template: its tools, and others.

  Raises:
    BadRow: the tools are not a list of objects, or the others are not an object
      or have a name that a row can't set.
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
  """A field's value; text is read as JSON, as where columns have one type."""
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
  """Makes a `Parse` for rows that become one record each."""
  chat = as_template(template)
  return lambda row, where, note: [parse(row, where, for_row(chat, row))]


def as_template(template: Template) -> ChatTemplate | None:
  """The template that an argument names; None stays None."""
  return None if template is None else load_template(template)
