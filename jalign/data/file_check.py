"""Describes a file of data, and what may be wrong with it, before training.

`check_file` reads a file as training would, leaving bad rows out, and looks for
what spoils a run quietly: repeated rows, pairs labelled both ways, prompts
that are also in the evaluation data, a preference for the longer response.
None of these findings is an error: the reader is to judge them.
"""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from jalign.data.balance import Spread, Statistics, balance, spread
from jalign.data.chat import PLAIN_CHAT
from jalign.data.checked import CheckedRecord, checked
from jalign.data.columns import Columns, Renamed
from jalign.data.containers import Path, Rows, rows_of
from jalign.data.reading import Template
from jalign.data.rows import BadRow
from jalign.data.schema import (
  Report,
  Skipped,
)
from jalign.data.sources import (
  WITHOUT_TEMPLATE,
  guess_source,
  read,
  shape_fields,
)
from jalign.data.tokenizer import Tokenizer
from jalign.errors import UserError


@dataclasses.dataclass(frozen=True)
class Overlap:
  """What a file shares with another.

  Attributes:
    path: the other file.
    report: of reading the other file.
    prompts: places of the records whose prompt is also in the other file.
    groups: places of the records whose split key is also in the other file.
    rows: places of the records that are also in the other file as a whole.
    conflicts: (place, place in the other file) of opposite labels.
  """

  path: str
  report: Report
  prompts: tuple[str, ...]
  groups: tuple[str, ...]
  rows: tuple[str, ...]
  conflicts: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Check:
  """What `check_file` found.

  Attributes:
    source: name of the source that read the file.
    guessed: whether the source was guessed from the first row.
    plain_chat: whether conversations were written with `PLAIN_CHAT`, for want
      of a template.
    report: of reading the file.
    lengths: ("prompts" or "responses", "characters" or "tokens") -> spread.
    duplicates: (place, place of the first such row) of every repeated row.
    different_prompts: number of different prompts among the records.
    conflicts: (place, earlier place) of opposite labels.
    balance: statistics of labels and scores, by name.
    overlap: what the file shares with the other file, if one was given.
  """

  source: str
  guessed: bool
  plain_chat: bool
  report: Report
  lengths: dict[tuple[str, str], Spread]
  duplicates: tuple[tuple[str, str], ...]
  different_prompts: int
  conflicts: tuple[tuple[str, str], ...]
  balance: Statistics
  overlap: Overlap | None = None

  @property
  def problems(self) -> tuple[Skipped, ...]:
    """The rows that were skipped, and why, in the order of the file."""
    return self.report.skipped


def check_file(
  path: Path,
  source: str | None = None,
  against: Path | None = None,
  *,
  tokenizer: Tokenizer | None = None,
  template: Template = None,
  data_dir: Path | None = None,
  columns: Columns | None = None,
) -> Check:
  """Reads a file and describes it.

  Args:
    path: what to read; see `containers`.
    source: a key of `SOURCES`; None guesses it from the first good row.
    against: another file of the same source, such as the evaluation data.
    tokenizer: counts tokens as well as characters.
    template: writes conversations; None writes them with `PLAIN_CHAT`.
    data_dir: folder of prepared TFDS data.
    columns: the files' names for the source's fields; see `reading`.

  Raises:
    UserError: a file cannot be read, has no usable row, or has rows of no
      known shape.
  """
  name = source or guess(path, data_dir, columns)
  options: dict[str, Any] = {
    "on_error": "skip",
    "data_dir": data_dir,
    "template": template,
  }
  if columns:
    options["columns"] = columns
  plain_chat = name == "conversations" and template is None  # as `_example`
  if name not in WITHOUT_TEMPLATE and template is None:
    plain_chat = holds_messages(path, data_dir, columns)
    options["template"] = PLAIN_CHAT if plain_chat else None
  records, report = read(name, path, **options)
  examples = [checked(record) for record in records]
  overlap = None
  if against is not None:
    others, other_report = read(name, against, **options)
    overlap = _overlap(examples, [checked(r) for r in others], other_report)
  return Check(
    source=name,
    guessed=source is None,
    plain_chat=plain_chat,
    report=report,
    lengths=_lengths(examples, tokenizer),
    duplicates=_duplicates(examples),
    different_prompts=len({example.prompt for example in examples}),
    conflicts=_conflicts(examples),
    balance=balance(records),
    overlap=overlap,
  )


def guess(
  path: Path, data_dir: Path | None = None, columns: Columns | None = None
) -> str:
  """Guesses the source from the first good row; Raises as in `check_file`."""
  renamed, rows = _rows(path, data_dir, columns)
  where, row = _first_row(rows, path)
  try:
    return guess_source(row)
  except UserError as error:
    renamed.check(os.fspath(path))  # a wrong column name explains the shape
    raise UserError(error.problem, where=where, remedy=error.remedy) from None


def _rows(
  path: Path, data_dir: Path | None, columns: Columns | None
) -> tuple[Renamed, Rows]:
  """Rows with the sources' names, and only the columns that tell a shape."""
  fields = shape_fields()
  renamed = Renamed(columns or {}, {*fields, *(columns or ())})
  rows = rows_of(path, data_dir, renamed.wanted)
  return renamed, renamed.rows(rows)


def _first_row(rows: Rows, path: Path) -> tuple[str, dict[str, Any]]:
  """(place, row) of the first row that the container can read."""
  first: tuple[str, BadRow] | None = None
  for where, row in rows:
    if not isinstance(row, BadRow):
      return where, row
    first = first or (where, row)
  if first is None:
    raise UserError("the file is empty.", where=str(path))
  where, bad = first
  _, problem, remedy = bad.args
  raise UserError(f"no usable row: {problem}", where=where, remedy=remedy)


def holds_messages(
  path: Path, data_dir: Path | None = None, columns: Columns | None = None
) -> bool:
  """Whether any row of a file has a list of messages, or belongs to a tree."""
  return any(
    "parent_id" in row or any(_is_message(value) for value in row.values())
    for _, row in _rows(path, data_dir, columns)[1]
    if isinstance(row, dict)
  )


def _is_message(value: Any) -> bool:
  if isinstance(value, list):
    return bool(value) and _is_message(value[0])
  return isinstance(value, dict) and ("role" in value or "from" in value)


def _duplicates(
  examples: Iterable[CheckedRecord],
) -> tuple[tuple[str, str], ...]:
  first: dict[Hashable, str] = {}
  duplicates = []
  for example in examples:
    if example.row in first:
      duplicates.append((example.source, first[example.row]))
    first.setdefault(example.row, example.source)
  return tuple(duplicates)


def _conflicts(
  examples: Iterable[CheckedRecord], before: Iterable[CheckedRecord] = ()
) -> tuple[tuple[str, str], ...]:
  """(place, earlier place) of opposite labels: among the examples or, if
  `before` isn't empty, between the examples and `before`."""
  said: defaultdict[Hashable, dict[Hashable, str]] = defaultdict(dict)
  before = list(before)
  for example in before:
    said[example.asked].setdefault(example.label, example.source)
  conflicts = []
  for example in examples:
    if example.asked is None:
      continue
    for label, source in said[example.asked].items():
      if label != example.label:
        conflicts.append((example.source, source))
    if not before:
      said[example.asked].setdefault(example.label, example.source)
  return tuple(conflicts)


def _overlap(
  examples: Sequence[CheckedRecord],
  others: Sequence[CheckedRecord],
  report: Report,
) -> Overlap:
  def shared(field: str) -> tuple[str, ...]:
    theirs = {getattr(other, field) for other in others}
    return tuple(e.source for e in examples if getattr(e, field) in theirs)

  return Overlap(
    path=report.path,
    report=report,
    prompts=shared("prompt"),
    groups=shared("group"),
    rows=shared("row"),
    conflicts=_conflicts(examples, others),
  )


def _lengths(
  examples: Sequence[CheckedRecord], tokenizer: Tokenizer | None
) -> dict[tuple[str, str], Spread]:
  spreads = {}
  texts = {  # (text that comes before, text)
    "prompts": dict.fromkeys(("", example.prompt) for example in examples),
    "responses": [(e.prompt, r) for e in examples for r in e.responses],
  }
  for name, some in texts.items():
    if not some:
      continue
    spreads[name, "characters"] = spread([len(text) for _, text in some])
    if tokenizer is not None:
      ids = [tokenizer.encode_after(before, text)[0] for before, text in some]
      spreads[name, "tokens"] = spread([len(tokens) for tokens in ids])
  return spreads
