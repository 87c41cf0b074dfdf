"""Writes a report's contents as one self-contained web page.

Pictures and style are inside the page. It loads nothing and runs nothing, and
its content security policy tells the browser so. The template
`report.html.jinja` escapes all that it is given, except Markdown's markup,
which comes from a renderer that escapes HTML.
"""

import base64
import functools
import importlib.resources
import pathlib
import re
from collections.abc import Sequence
from typing import Any

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

# Texts of more characters or lines than this are folded to a preview.
FOLD_CHARS, FOLD_LINES = 520, 9
PREVIEW_CHARS = 300


@functools.cache
def _tools():
  """(template, function from Markdown to markup); their imports are slow."""
  import jinja2
  import markdown_it

  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_resource),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  # An image in a text would be loaded from elsewhere; a Figure is embedded.
  render = markdown_it.MarkdownIt("commonmark", {"html": False})
  render.enable(["table", "strikethrough"]).disable("image")
  return environment.get_template("report.html.jinja"), render.render


def _resource(name: str) -> str:
  return (importlib.resources.files("jalign.pages") / name).read_text(
    encoding="utf-8"
  )


def _figure(figure: Figure, where: str) -> dict[str, Any]:
  path = pathlib.Path(figure.path)
  if not path.is_file():
    raise UserError(f"there is no picture {path}.", where=where)
  data = path.read_bytes()
  if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
    raise UserError(f"{path} is no PNG file.", where=where)
  return {
    "kind": "figure",
    "data": base64.b64encode(data).decode("ascii"),
    # Pixels; at two thirds, a plot's letters are as large as the page's text.
    "width": int.from_bytes(data[16:20], "big"),
    "height": int.from_bytes(data[20:24], "big"),
    "caption": figure.caption,
  }


def _passage(text: str, max_chars: int) -> dict[str, str]:
  """A prompt or a response: text, remark if cut, preview if folded, size."""
  shown, remark = shortened(text, max_chars)
  shown, preview = shown.strip("\n"), ""
  lines = shown.splitlines()
  if len(shown) > FOLD_CHARS or len(lines) > FOLD_LINES:
    start = "\n".join(lines[: FOLD_LINES - 2])[:PREVIEW_CHARS]
    # Not cut within a word, if the text has words.
    preview = re.sub(r"\s+\S{0,30}$", "", start) or start
  size = f"{len(shown):,}"
  return {"text": shown, "remark": remark, "preview": preview, "size": size}


def _samples(samples: Samples) -> dict[str, Any]:
  rows = []
  for prompt, responses in samples.rows:
    passages = [
      (name, _passage(text, samples.max_chars))
      for name, text in responses.items()
    ]
    rows.append((_passage(prompt, samples.max_chars), passages))
  return {"kind": "samples", "rows": rows}


def _view(content: Content, where: str) -> dict[str, Any]:
  """The values that the template needs to show a content."""
  if isinstance(content, Table):
    texts, right = cells(content, where)
    head = list(zip(content.header, right))
    rows = [list(zip(row, right)) for row in texts]
    return {"kind": "table", "head": head, "rows": rows}
  if isinstance(content, Figure):
    return _figure(content, where)
  if isinstance(content, Samples):
    return _samples(content)
  if isinstance(content, Details):
    views = _views(content.content, where)
    return {"kind": "details", "title": content.title, "views": views}
  return {"kind": "text", "text": content}


def _views(content: Any, where: str) -> list[dict[str, Any]]:
  return [_view(part, where) for part in parts(content, where)]


def _anchors(titles: Sequence[str]) -> list[str]:
  """A readable, unique fragment for each title."""
  anchors: list[str] = []
  for title in titles:
    stem = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
    anchor, count = stem, 1
    while anchor in anchors:
      count += 1
      anchor = f"{stem}-{count}"
    anchors.append(anchor)
  return anchors


def web_page(title: str, summary: str, sections: Sequence[Section]) -> str:
  """The report as a page of HTML.

  Args:
    title: plain text.
    summary: Markdown below the title.
    sections: sections, in order.

  Raises:
    UserError: as in `write_report`.
  """
  template, render = _tools()
  import markupsafe

  anchors = _anchors([section.title for section in sections])
  return template.render(
    title=title,
    summary=summary.strip(),
    sections=[
      (anchor, x.title, _views(x.content, f"section {x.title!r}"))
      for anchor, x in zip(anchors, sections)
    ],
    css=markupsafe.Markup(_resource("report.css")),
    markdown=lambda text: markupsafe.Markup(render(text)),
  )
