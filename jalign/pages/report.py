"""Writes a report as a folder: `report.md`, `report.html` and plots.

The Markdown page is for a repository's web view and for diffs; it links to the
plots. The web page is a single file with everything in it, to send or to open.
"""

import pathlib
from collections.abc import Sequence

from jalign.files import write_whole
from jalign.pages.contents import (
  Content,
  Details,
  Figure,
  Path,
  Samples,
  Section,
  Table,
)
from jalign.pages.markdown import markdown_page
from jalign.pages.webpage import web_page

__all__ = [
  "Content",
  "Details",
  "Figure",
  "Samples",
  "Section",
  "Table",
  "write_report",
]


def write_report(
  folder: Path, *, title: str, sections: Sequence[Section], summary: str = ""
) -> pathlib.Path:
  """Writes `report.md` and `report.html`; plots belong in `plots/`.

  Args:
    folder: the report's folder, made if missing; old pages are replaced.
    title: title of the page, plain text.
    sections: sections, in order.
    summary: Markdown below the title: what was found.

  Returns:
    The path of `report.md`; `report.html` is beside it.

  Raises:
    UserError: a picture is missing or no PNG file, a row does not fit its
      header, or a content is of no known kind. Then no page is written.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  pages = {
    "report.md": markdown_page(title, summary, sections, folder),
    "report.html": web_page(title, summary, sections),
  }
  for name, text in pages.items():
    write_whole(folder / name, text.encode())
  return folder / "report.md"
