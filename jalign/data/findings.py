"""Writes the findings of `check_file` as lines of text."""

from collections.abc import Iterable, Iterator, Sequence

from jalign.data.file_check import Check, Overlap, Spread
from jalign.data.schema import line_of, name_lines
from jalign.errors import printable

_SHOWN = 5  # entries of a list that are shown


def describe(check: Check) -> list[str]:
  """Lines that say what a file holds and what may be wrong with it."""
  return [
    printable(f"{name:<11}{text}")
    for name, texts in (
      ("source", _source(check)),
      ("rows", [check.report.summary()]),
      ("lengths", _lengths(check)),
      ("duplicates", _duplicates(check)),
      ("labels", _labels(check)),
      ("against", _against(check.overlap)),
      ("problems", _problems(check)),
    )
    for name, text in zip([name, *[""] * 100], texts)
  ]


def _source(check: Check) -> Iterator[str]:
  yield check.source + (
    " (guessed from the first row; --source names another)"
    if check.guessed
    else ""
  )
  if check.plain_chat:
    yield (
      "conversations are written plainly here, as 'user: ...'; training needs "
      "a template"
    )


def _lengths(check: Check) -> Iterator[str]:
  for (name, unit), spread in check.lengths.items():
    yield f"{name}, {unit}: {_spread(spread)}"


def _duplicates(check: Check) -> Iterator[str]:
  repeated = check.duplicates
  if not repeated:
    yield "no row comes twice"
  else:
    yield f"{_count(len(repeated), 'row')} that came before: " + _listed(
      f"line {line_of(a)} is line {line_of(b)}" for a, b in repeated
    )
  used = check.report.records or check.report.used
  yield f"{check.different_prompts} different prompts in {used} records"


def _labels(check: Check) -> Iterator[str]:
  if check.conflicts:
    yield f"{len(check.conflicts)} with opposite labels: " + _listed(
      f"line {line_of(a)} against line {line_of(b)}" for a, b in check.conflicts
    )
  for name, value in check.balance.items():
    if isinstance(value, Spread):
      yield f"{name}: {_spread(value)}"
    elif isinstance(value, int):
      yield f"{name}: {value}"
    else:
      yield f"{name}: {value:.1%}"


def _against(overlap: Overlap | None) -> Iterator[str]:
  if overlap is None:
    return
  yield f"{overlap.path}: {overlap.report.summary()}"
  for name, places in (
    ("whole row", overlap.rows),
    ("prompt", overlap.prompts),
    ("split key (first human turn)", overlap.groups),
  ):
    text = f"{len(places)} records with their {name} in both"
    yield text + (f" ({_lines(places)})" if places else "")
  if overlap.conflicts:
    yield f"{len(overlap.conflicts)} with the opposite label there: " + _listed(
      f"line {line_of(a)} against its line {line_of(b)}"
      for a, b in overlap.conflicts
    )


def _problems(check: Check) -> Iterator[str]:
  for skipped in check.problems[:_SHOWN]:
    yield f"{skipped.where}: {skipped.problem}"
  more = len(check.problems) - _SHOWN
  if more > 0:
    yield f"and {more} more; the lines are above, by reason"


def _spread(spread: Spread) -> str:
  least, median, p95, most = (f"{value:.6g}" for value in spread)
  return f"min {least}, median {median}, p95 {p95}, max {most}"


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}{'' if number == 1 else 's'}"


def _lines(places: Sequence[str]) -> str:
  return name_lines([line_of(place) for place in places])


def _listed(texts: Iterable[str]) -> str:
  entries = list(texts)
  more = [f"and {len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
  return ", ".join(entries[:_SHOWN] + more)
