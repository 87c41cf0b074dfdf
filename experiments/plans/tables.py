"""The tables of docs/scale.md, made of the plans' files."""

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

from experiments.plans.figures import FOLDER, Figures, figures, read
from experiments.plans.rows import (
  CACHE,
  GROWTH,
  LEVERS,
  OFFLOAD,
  PROGRAMS,
  Row,
)

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/scale.md"
GB, TERA = 1e9, 1e12
_PLOT = """![What doubling chips, sequence or vocabulary does to memory, FLOPs,
and bytes of a device](static/growth.png)"""
_PART = r"(<!-- plans: {} -->\n).*?(<!-- end -->)"


def write(page: pathlib.Path = PAGE, folder: pathlib.Path = FOLDER) -> None:
  """Puts the tables of all files into the page."""
  page.write_text(filled(page.read_text(), folder))


def filled(text: str, folder: pathlib.Path = FOLDER) -> str:
  """The page's text with the tables of the plans' files.

  Args:
    text: the page, whose tables stand between `<!-- plans: NAME -->` and
      `<!-- end -->`.
    folder: the folder of the files.
  """
  for name, make in TABLES.items():
    table = make(folder)
    text, count = re.subn(
      _PART.format(name),
      lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}",
      text,
      flags=re.S,
    )
    assert count == 1, f"the page has {count} places for the table {name}"
  return text


def _programs(folder: pathlib.Path) -> str:
  head = ("program", "devices", "mesh", "peak", "needs in all", "of")
  head = (*head, "compiled in", "time at least")
  return _table(head, PROGRAMS, folder, _program)


def _program(row: Row, f: Figures) -> Iterable[str]:
  about = row.about if len(row.programs) == 1 else f"{row.about}: {f.program}"
  return (
    about,
    row.topology,
    row.mesh,
    f"{_gb(f.peak)} GB" if f.peak else "refused",
    f"{_gb(f.needs)} GB" + ("" if f.fits else ", **doesn't fit**"),
    f"{_gb(f.usable)} GB",
    f"{f.seconds:.0f} s",
    f"{_seconds(f.time)}, {f.bound}" if f.time else "",
  )


def _growth(folder: pathlib.Path) -> str:
  head = ("DPO 1.7B, 32 pairs", "devices", "memory", "work", "gathered")
  head = (*head, "reduced", "time at least")
  table = _table(head, GROWTH, folder, _grown)
  drawn = all(read(name, folder) for name in GROWTH)
  return f"{table}\n{_PLOT}\n" if drawn else table


def _grown(row: Row, f: Figures) -> Iterable[str]:
  return (
    row.about,
    row.topology,
    f"{_gb(f.needs)} GB",
    f"{f.flops / TERA:,.0f} TFLOP",
    f"{_gb(f.gathered)} GB",
    f"{_gb(f.reduced)} GB",
    f"{_seconds(f.time)}, {f.bound}",
  )


def _levers(folder: pathlib.Path) -> str:
  head = ("key", "a device needs", "work", "gathered", "reduced")
  return _table(head, LEVERS, folder, _lever)


def _offload(folder: pathlib.Path) -> str:
  head = ("key", "a device needs", "work", "gathered", "reduced")
  return _table(head, OFFLOAD, folder, _lever)


def _lever(row: Row, f: Figures) -> Iterable[str]:
  return (
    _keys(row.about),
    f"{_gb(f.needs)} GB" + ("" if f.fits else ", **doesn't fit**"),
    f"{f.flops / TERA:,.0f} TFLOP",
    f"{_gb(f.gathered)} GB",
    f"{_gb(f.reduced)} GB",
  )


def _cache(folder: pathlib.Path) -> str:
  return _table(("key", "a device needs", "time at least"), CACHE, folder, _one)


def _one(row: Row, f: Figures) -> Iterable[str]:
  return (
    _keys(row.about),
    f"{_gb(f.needs)} GB",
    f"{_seconds(f.time)}, {f.bound}",
  )


TABLES: Mapping[str, Callable[[pathlib.Path], str]] = {
  "programs": _programs,
  "growth": _growth,
  "levers": _levers,
  "offload": _offload,
  "cache": _cache,
}


def _table(
  head: Iterable[str],
  rows: Mapping[str, Row],
  folder: pathlib.Path,
  cells: Callable[[Row, Figures], Iterable[str]],
) -> str:
  """A table of the rows whose files are there."""
  lines = [tuple(head)]
  lines.append(tuple("---" for _ in lines[0]))
  for name, row in rows.items():
    plan = read(name, folder)
    lines += [tuple(cells(row, f)) for f in figures(plan)] if plan else []
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _keys(about: str) -> str:
  return about if "=" not in about else f"`{about}`"


def _gb(size: float) -> str:
  gigabytes = size / GB
  return f"{gigabytes:.2f}" if gigabytes < 10 else f"{gigabytes:.1f}"


def _seconds(time: float | None) -> str:
  if time is None:
    return ""
  return f"{time:.2g} s" if time >= 0.1 else f"{time * 1e3:.2g} ms"
