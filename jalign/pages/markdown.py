"""Writes a report's contents as GitHub-flavoured Markdown.

Whatever comes from data, such as a table's cell or a model's response, is
escaped and shows as it is; only the report's own texts are Markdown.
"""

import pathlib
import re
import shutil
from collections.abc import Sequence
from urllib.parse import quote

from jalign.errors import UserError
from jalign.pages.contents import (
  Content,
  Details,
  Figure,
  Samples,
  Section,
  Table,
  cells,
  parts,
  shortened,
)


def escaped(text: str) -> str:
  """Text that Markdown shows as it is, on one line: in a cell, a list, a title.

  All text that comes from data must be escaped: names of columns, files and
  runs, captions, responses.
  """
  text = re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", " ".join(text.split()))
  # A list's number needs a space after its dot, so that 74.2 is no list.
  return re.sub(r"^(\d+)([.)])(?=\s|$)|^([-+=])", r"\1\\\2\3", text)


# Marks of chats once they are escaped: <|im_start|>, <end_of_turn>, [INST].
_MARKS = re.compile(
  r"(?:\\<(?:\\\|(?:[^\s`<>|\\]|\\[_*~$&#])+\\\||｜[^\s｜]+｜"
  r"|/?(?:s|bos|eos|pad|unk|start\\_of\\_turn|end\\_of\\_turn))\\>"
  r"|\\\[/?INST\\\])+"
)


def _readable(line: str) -> str:
  """A line escaped, but with marks of chats as code, which has no escapes."""
  code = lambda mark: f"`{mark[0].replace(chr(92), '')}`"
  return _MARKS.sub(code, escaped(line))


def _quoted(text: str, max_chars: int) -> str:
  """Text as a block quote, with its lines and indents kept."""
  text, remark = shortened(text, max_chars)
  lines = []
  for line in text.strip("\n").splitlines() or [""]:
    body = line.expandtabs(4)
    indent = len(body) - len(body.lstrip())
    lines.append("&nbsp;" * indent + _readable(body))
  if remark:
    lines[-1] += f" … *{remark}*"
  if lines == [""]:
    lines = ["*(empty)*"]
  # Two spaces end a line without ending the paragraph.
  return "\n".join(f"> {line}  " if line else ">" for line in lines)


def _table(table: Table, where: str) -> str:
  texts, right = cells(table, where)
  lines = [
    [escaped(name) for name in table.header],
    ["---:" if number else "---" for number in right],
    *(
      [text if n else escaped(text) for text, n in zip(row, right)]
      for row in texts
    ),
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
  place = re.sub(r"[<>\\\s]", lambda x: quote(x[0]), place).replace("%20", " ")
  caption = escaped(figure.caption)
  picture = f"![{caption}](<{place}>)"
  return f"{picture}\n\n*{caption}*" if caption else picture


def _samples(samples: Samples) -> str:
  lines = []
  for number, (prompt, responses) in enumerate(samples.rows, 1):
    lines.append(f"**Prompt {number}**")
    lines.append(_quoted(prompt, samples.max_chars))
    for name, response in responses.items():
      lines.append(f"**{escaped(name)}**")
      lines.append(_quoted(response, samples.max_chars))
    lines.append("---")
  return "\n\n".join(lines[:-1])


def _block(
  content: Content, folder: pathlib.Path, where: str, level: int
) -> str:
  if isinstance(content, Table):
    return _table(content, where)
  if isinstance(content, Figure):
    return _figure(content, folder, where)
  if isinstance(content, Samples):
    return _samples(content)
  if isinstance(content, Details):
    return _headed(content, folder, where, level)
  return content.strip()


def _headed(
  part: Section | Details, folder: pathlib.Path, where: str, level: int
) -> str:
  blocks = [f"{'#' * min(level, 6)} {escaped(part.title)}"]
  for content in parts(part.content, where):
    blocks.append(_block(content, folder, where, level + 1))
  return "\n\n".join(block for block in blocks if block)


def markdown_page(
  title: str, summary: str, sections: Sequence[Section], folder: pathlib.Path
) -> str:
  """The page; pictures from elsewhere are copied into the folder's plots/.

  Args:
    title: plain text.
    summary: Markdown below the title.
    sections: sections, in order.
    folder: folder of the page, to which links of pictures are relative.

  Raises:
    UserError: as in `write_report`.
  """
  blocks = [f"# {escaped(title)}", summary.strip()]
  for section in sections:
    where = f"section {section.title!r}"
    blocks.append(_headed(section, folder, where, 2))
  return "\n\n".join(block for block in blocks if block) + "\n"
