"""What a report can hold, and how its data is written as text.

These are plain data, which `markdown` and `webpage` render. This module decides
what both must agree on: how a number is written, which columns are numbers, and
where a long text ends.
"""

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from jalign.errors import UserError

Path = str | os.PathLike[str]


class Table(NamedTuple):
  """A table; columns of numbers are aligned right.

  Attributes:
    header: a name for each column, with its unit.
    rows: a cell for each column. Floats are shown with four significant digits,
      None and NaN as a dash. Text such as "0.65 ± 0.03" or
      "99.7 % (99.1 to 100.0)" counts as a number.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[Any]]


class Figure(NamedTuple):
  """A picture.

  Attributes:
    path: the PNG file. A file outside the report's folder is copied into it.
    caption: a sentence below the picture.
  """

  path: Path
  caption: str = ""


class Samples(NamedTuple):
  """Prompts, each with its responses.

  Attributes:
    rows: (prompt, {name of the model: response}) for each prompt.
    max_chars: texts longer than this are cut, with a remark.
  """

  rows: Sequence[tuple[str, Mapping[str, str]]]
  max_chars: int = 1500


class Details(NamedTuple):
  """Content that most readers skip: folded on the web page, and below a heading
  in Markdown.

  Attributes:
    title: plain text, which is always shown.
    content: content as of a `Section`; may include further Details.
  """

  title: str
  content: "Content | Sequence[Content]"


Content = str | Table | Figure | Samples | Details


class Section(NamedTuple):
  """A heading and the content below it.

  Attributes:
    title: plain text.
    content: Markdown text, a Table, a Figure, Samples, Details, or a sequence
      of them.
  """

  title: str
  content: Content | Sequence[Content]


def parts(content: Any, where: str) -> Sequence[Content]:
  """The content as a sequence, with the kinds of its parts checked.

  Args:
    content: a part, or a sequence of parts.
    where: name of the section, for errors.

  Raises:
    UserError: a part is of no kind that can be shown.
  """
  sequence = [content] if isinstance(content, Content) else content
  for part in sequence if isinstance(sequence, Sequence) else [content]:
    if not isinstance(part, Content):
      raise UserError(
        f"a {type(part).__name__} cannot be shown.",
        where=where,
        remedy="Give text, a Table, a Figure, Samples or Details.",
      )
  return cast(Sequence[Content], sequence)


def with_ends(
  value: float, low: float, high: float, *, form: str = ".1f", unit: str = ""
) -> str:
  """A number with the ends of its interval, as "79.3 % (71.1 to 85.7)"."""
  return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"


_NUMBER = r"[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?"
_SPREAD = rf" ?± ?{_NUMBER}"
_ENDS = rf" \({_NUMBER} to {_NUMBER}\)"
_NUMERIC = re.compile(rf"({_NUMBER}({_SPREAD})?( ?%)?({_ENDS})?|–|)")


def _cell(value: Any) -> str:
  if value is None or value != value:
    return "–"
  if isinstance(value, str) or type(value).__name__.startswith("bool"):
    return str(value)
  try:
    return str(operator.index(value))
  except TypeError:
    pass
  try:
    return f"{float(value):.4g}"
  except (TypeError, ValueError):
    return str(value)


def cells(table: Table, where: str) -> tuple[list[list[str]], list[bool]]:
  """A table's cells as plain text, and which columns hold numbers.

  Raises:
    UserError: a row does not fit the header.
  """
  for i, row in enumerate(table.rows):
    if len(row) != len(table.header):
      raise UserError(
        f"row {i} has {len(row)} cells for {len(table.header)} columns.",
        where=where,
      )
  texts = [[_cell(value) for value in row] for row in table.rows]
  right = [
    any(row[j] for row in texts)
    and all(_NUMERIC.fullmatch(row[j]) for row in texts)
    for j in range(len(table.header))
  ]
  return texts, right


def shortened(text: str, max_chars: int) -> tuple[str, str]:
  """(text cut after `max_chars`, remark on what was left out, or "")."""
  more = len(text) - max_chars
  if more <= 0:
    return text, ""
  return text[:max_chars], f"({more:,} characters more)"
