"""A report as a folder: `report.md` and its plots, from pure data.

The page is GitHub-flavoured Markdown. Whatever comes from data, a table's
cell or a model's response, is escaped and shows as it is; only a section's
own text is Markdown.
"""

import operator
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError
from jalign.files import write_whole

Path = str | os.PathLike[str]


class Table(NamedTuple):
  """A table. Columns of numbers are set to the right.

  Attributes:
    header: a name per column, with its unit.
    rows: a cell per column; floats are shown with four significant digits,
      None and NaN as a dash.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[Any]]


class Figure(NamedTuple):
  """A picture.

  Attributes:
    path: of the PNG file. From outside the report's folder it is copied in.
    caption: one sentence, below the picture.
  """

  path: Path
  caption: str = ""


class Samples(NamedTuple):
  """Prompts, each with the responses to it.

  Attributes:
    rows: (prompt, {name of the model: response}).
    max_chars: longer texts are cut there, and say so.
  """

  rows: Sequence[tuple[str, Mapping[str, str]]]
  max_chars: int = 1500


Content = str | Table | Figure | Samples


class Section(NamedTuple):
  """A heading and what stands below it.

  Attributes:
    title: of the section.
    content: Markdown text, a Table, a Figure, Samples, or a sequence of them.
  """

  title: str
  content: Content | Sequence[Content]


def _escaped(text: str) -> str:
  """Text that Markdown shows as it is, on one line."""
  text = re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))
  return re.sub(r"^(\d+)([.)])|^([-+=])", r"\1\\\2\3", text)


def _quoted(text: str, max_chars: int) -> str:
  """Text as a block quote that keeps its lines and indents."""
  more = len(text) - max_chars
  if more > 0:
    text = text[:max_chars]
  lines = []
  for line in text.strip("\n").splitlines() or [""]:
    body = line.expandtabs(4)
    indent = len(body) - len(body.lstrip())
    lines.append("&nbsp;" * indent + _escaped(body))
  if more > 0:
    lines[-1] += f" … *({more:,} characters more)*"
  if lines == [""]:
    lines = ["*(empty)*"]
  # Two spaces end a line without ending the paragraph.
  return "\n".join(f"> {line}  " if line else ">" for line in lines)


def _cell(value: Any) -> tuple[str, bool]:
  """A cell's text, and whether it is a number."""
  if value is None or value != value:
    return "–", True
  if isinstance(value, str) or type(value).__name__.startswith("bool"):
    return _escaped(str(value)), False
  try:
    return str(operator.index(value)), True
  except TypeError:
    pass
  try:
    return f"{float(value):.4g}", True
  except (TypeError, ValueError):
    return _escaped(str(value)), False


def _table(table: Table, where: str) -> str:
  for i, row in enumerate(table.rows):
    if len(row) != len(table.header):
      raise UserError(
        f"row {i} has {len(row)} cells for {len(table.header)} columns.",
        where=where,
      )
  cells = [[_cell(value) for value in row] for row in table.rows]
  right = [
    bool(cells) and all(row[j][1] for row in cells)
    for j in range(len(table.header))
  ]
  lines = [
    [_escaped(name) for name in table.header],
    ["---:" if number else "---" for number in right],
    *([text for text, _ in row] for row in cells),
  ]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(figure: Figure, folder: pathlib.Path, where: str) -> str:
  path = pathlib.Path(figure.path)
  if not path.is_file():
    raise UserError(f"there is no picture {path}.", where=where)
  if not path.resolve().is_relative_to(folder.resolve()):
    inside = folder / "plots" / path.name
    if inside.exists() and inside.read_bytes() != path.read_bytes():
      raise UserError(
        f"another picture is already at {inside}.",
        where=where,
        remedy=f"Give {path} another name.",
      )
    inside.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, inside)
    path = inside
  place = path.resolve().relative_to(folder.resolve()).as_posix()
  caption = _escaped(figure.caption)
  picture = f"![{caption}](<{place}>)"
  return f"{picture}\n\n*{caption}*" if caption else picture


def _samples(samples: Samples) -> str:
  parts = []
  for number, (prompt, responses) in enumerate(samples.rows, 1):
    parts.append(f"**Prompt {number}**")
    parts.append(_quoted(prompt, samples.max_chars))
    for name, response in responses.items():
      parts.append(f"**{_escaped(name)}**")
      parts.append(_quoted(response, samples.max_chars))
    parts.append("---")
  return "\n\n".join(parts[:-1])


def _markdown(content: Content, folder: pathlib.Path, where: str) -> str:
  if isinstance(content, str):
    return content.strip()
  if isinstance(content, Table):
    return _table(content, where)
  if isinstance(content, Figure):
    return _figure(content, folder, where)
  if isinstance(content, Samples):
    return _samples(content)
  raise UserError(
    f"a {type(content).__name__} cannot be shown.",
    where=where,
    remedy="Give text, a Table, a Figure or Samples.",
  )


def write_report(
  folder: Path, *, title: str, sections: Sequence[Section], summary: str = ""
) -> pathlib.Path:
  """Writes `report.md`; plots belong in the folder's `plots/`.

  Args:
    folder: of the report, made where missing; an old page is replaced.
    title: of the page.
    sections: in order.
    summary: Markdown below the title: what was found.

  Returns:
    The path of `report.md`.

  Raises:
    UserError: a picture is missing, a row does not fit its header, or a
      content is none of the four kinds.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  parts = [f"# {_escaped(title)}", summary.strip()]
  for section in sections:
    parts.append(f"## {_escaped(section.title)}")
    content, where = section.content, f"section {section.title!r}"
    one = isinstance(content, Content)
    contents: Sequence[Any] = [content] if one else content
    parts.extend(_markdown(part, folder, where) for part in contents)
  path = folder / "report.md"
  text = "\n\n".join(p for p in parts if p) + "\n"
  write_whole(path, text.encode())
  return path
