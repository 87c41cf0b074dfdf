"""The table of claims that every reproduction of a paper ends with.

A script of this folder has a function `claims()` that lists the claims, and a
function that draws its figure. It ends with

  if __name__ == "__main__":
    out = out_folder(__doc__)
    sys.exit(report("name", "Title", claims(), draw, out))
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from jalign.files import write_whole
from jalign.pages.style import STYLE, save_figure

HEADER = ("paper", "claim", "ours", "holds")


class Claim(NamedTuple):
  """What a paper says, or a derivation from it, and what we measure.

  Attributes:
    paper: authors, year and arXiv number.
    claim: the statement, with its numbers.
    ours: the measured number or numbers.
    holds: whether the two agree, as far as the claim is exact.
    finding: whether the claim is no law, but about one trained policy. A
      finding that doesn't hold is reported, and is no failure.
  """

  paper: str
  claim: str
  ours: str
  holds: bool
  finding: bool = False


def markdown(title: str, claims: Sequence[Claim], more: str = "") -> str:
  """The claims as a Markdown page: a title, the count, a table and `more`."""
  rows = [
    (
      paper,
      claim,
      ours,
      ("yes" if holds else "**no**") + " (measured)" * finding,
    )
    for paper, claim, ours, holds, finding in claims
  ]
  rows = [HEADER, ("---",) * len(HEADER), *rows]
  table = [
    "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    for row in rows
  ]
  held = sum(bool(claim.holds) for claim in claims)
  count = f"{held} of {len(claims)} claims hold."
  page = [f"# {title}", "", count, "", *table, ""]
  return "\n".join([*page, more, ""] if more else page)


def report(
  name: str,
  title: str,
  claims: Sequence[Claim],
  figure: Callable[[], Figure],
  out: str | pathlib.Path,
  more: str = "",
) -> int:
  """Prints the claims and writes NAME.md and NAME.png.

  Args:
    name: name of the two files.
    title: title of the page.
    claims: the rows, at least one.
    figure: draws the figure; called within the reports' style.
    out: folder of the files, made if missing.
    more: Markdown below the table.

  Returns:
    The exit code: 0 if every claim that is no finding holds, else 1.
  """
  out = pathlib.Path(out)
  print(title)
  for claim in claims:
    mark = "yes" if claim.holds else "NO "
    print(f"  {mark} {claim.paper}: {claim.claim}\n      ours: {claim.ours}")
  with matplotlib.rc_context(STYLE):
    picture = save_figure(figure(), out / f"{name}.png")
  page = out / f"{name}.md"
  write_whole(page, markdown(title, claims, more).encode())
  print(f"{page}\n{picture}")
  laws = all(claim.holds or claim.finding for claim in claims)
  return 0 if claims and laws else 1


def out_folder(
  description: str | None, argv: Sequence[str] | None = None
) -> pathlib.Path:
  """The folder given as --out; the help begins with `description`."""
  first = (description or "").split("\n")[0]
  parser = argparse.ArgumentParser(description=first)
  parser.add_argument("--out", required=True, help="folder of NAME.md, .png")
  return pathlib.Path(parser.parse_args(argv).out)
