"""A report as a folder: `report.md`, `report.html` and plots, from pure data.

The Markdown page is for a repository's web view and for diffs, and links its
plots. The web page is one file with everything in it, to be sent or opened.
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
    folder: of the report, made where missing; old pages are replaced.
    title: of the page, plain text.
    sections: in order.
    summary: Markdown below the title: what was found.

  Returns:
    The path of `report.md`; `report.html` is beside it.

  Raises:
    UserError: a picture is missing or no PNG file, a row does not fit its
      header, or a content is of no known kind. No page is written then.
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
