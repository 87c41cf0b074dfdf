"""Readers: a file becomes records and a report; and the split by group.

Every reader names file and line in its errors. With `on_error="error"` the
first bad row raises; with "skip" bad rows are counted and listed, by reason,
in the report. A file that cannot be read, or that has no usable row, always
raises. Blank lines are passed over; line numbers count them.
"""

import gzip
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from jalign.data import rows
from jalign.data.schema import PreferenceRecord, PromptRecord, Report, Skipped
from jalign.data.tldr_world.dataset import read_tldr_world
from jalign.errors import UserError

Path = str | os.PathLike[str]
Record = TypeVar("Record", PreferenceRecord, PromptRecord)


def read_jsonl(
  path: Path, on_error: str = "error"
) -> tuple[list[PreferenceRecord], Report]:
  """Reads pairs from a JSON-lines file, gzipped if its name ends in .gz.

  A line is an object with the strings "prompt", "chosen" and "rejected" and,
  optionally, the numbers "preference" (in [0, 1]), "chosen_score" and
  "rejected_score". Other fields are not read; the report counts them. Text is
  kept as it is, with its leading and trailing spaces. The split key is the
  prompt, or its first human turn if the prompt is an HH transcript.

  Args:
    path: the file.
    on_error: "error" or "skip".

  Returns:
    (records, report), records in the order of the file.

  Raises:
    UserError: the file cannot be read or has no usable row, or, with
      on_error="error", a row is bad.
  """
  return _read(path, on_error, rows.pair_record, rows.TEXTS + rows.NUMBERS)


def read_hh(
  path: Path, on_error: str = "skip"
) -> tuple[list[PreferenceRecord], Report]:
  r"""Reads pairs of Anthropic HH transcripts.

  A line is an object whose strings "chosen" and "rejected" are whole
  transcripts, "\n\nHuman: ...\n\nAssistant: ..." and so on. The prompt is what
  they share, up to and including the last "\n\nAssistant:"; the responses are
  what follows it, with their leading space. Two turns of one role in a row are
  fine. Rows that part before the last assistant turn are bad rows. The split
  key is the first human turn.

  Args:
    path: the file, gzipped if its name ends in .gz.
    on_error: "error" or "skip".

  Returns:
    (records, report), records in the order of the file.

  Raises:
    UserError: as `read_jsonl`.
  """
  return _read(path, on_error, rows.transcript_record, ("chosen", "rejected"))


def read_prompts(
  path: Path, on_error: str = "error"
) -> tuple[list[PromptRecord], Report]:
  """Reads the "prompt" of every line of a JSON-lines file.

  Files of pairs serve too: their other fields are counted as not read.

  Args:
    path: the file, gzipped if its name ends in .gz.
    on_error: "error" or "skip".

  Returns:
    (records, report), records in the order of the file.

  Raises:
    UserError: as `read_jsonl`.
  """
  return _read(path, on_error, rows.prompt_record, ("prompt",), noun="prompts")


SOURCES: dict[str, Callable[..., tuple[list[Any], Report]]] = {
  "jsonl": read_jsonl,
  "hh": read_hh,
  "tldr_world": read_tldr_world,
}


def read(
  name: str, path: Path, **options: Any
) -> tuple[list[PreferenceRecord], Report]:
  """Reads `path` with the source called `name`.

  Args:
    name: a key of `SOURCES`.
    path: the file.
    **options: the reader's own.

  Returns:
    (records, report).

  Raises:
    UserError: no such source, or the reader's own.
  """
  if name not in SOURCES:
    raise UserError(
      f"there is no data source {name!r}.",
      remedy=f"The sources are {', '.join(sorted(SOURCES))}.",
    )
  return SOURCES[name](path, **options)


def unique_prompts(records: Iterable[PreferenceRecord]) -> list[PromptRecord]:
  """The different prompts of some pairs, in order of first appearance."""
  found: dict[str, PromptRecord] = {}
  for row in records:
    found.setdefault(
      row.prompt, PromptRecord(row.prompt, row.source, row.group)
    )
  return list(found.values())


def split(
  records: Sequence[Record], eval_fraction: float, seed: int
) -> tuple[list[Record], list[Record]]:
  """Splits records by group into training and evaluation parts.

  A group goes to evaluation if the hash of (seed, group) falls below
  `eval_fraction`. So where a record goes depends on nothing but its group, the
  fraction and the seed: not on the order, nor on the other records; and a
  smaller fraction gives a subset of the evaluation records of a larger one.

  Args:
    records: anything with a `group`.
    eval_fraction: expected share of the groups, in (0, 1).
    seed: any integer.

  Returns:
    (train, evaluation), each in the given order.

  Raises:
    UserError: the fraction is out of range, or a part is empty.
  """
  if not 0 < eval_fraction < 1:
    raise UserError(
      f"eval_fraction is {eval_fraction}.",
      remedy="Give a number above 0 and below 1.",
    )
  parts: tuple[list[Record], list[Record]] = ([], [])
  for record in records:
    parts[_uniform(seed, record.group) < eval_fraction].append(record)
  for part, name in zip(parts, ("training", "evaluation")):
    if not part:
      groups = len({record.group for record in records})
      raise UserError(
        f"the {name} part of the split is empty: {len(records)} records in "
        f"{groups} groups, eval_fraction {eval_fraction}, seed {seed}.",
        remedy="Give more data, another fraction or another seed; records "
        "with the same prompt (or first human turn) always stay together.",
      )
  return parts


def _uniform(seed: int, group: str) -> float:
  """A number in [0, 1) that depends on seed and group alone."""
  digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
  return int.from_bytes(digest[:8], "big") / 2**64


def _read(
  path: Path,
  on_error: str,
  parse: Callable[[dict[str, Any], str], Record],
  fields: Sequence[str],
  noun: str = "pairs",
) -> tuple[list[Record], Report]:
  """Applies `parse` to the rows of a file and keeps the books."""
  if on_error not in ("error", "skip"):
    raise UserError(
      f"on_error is {on_error!r}.", remedy='Give "error" or "skip".'
    )
  records, skipped, ignored, count = [], [], Counter[str](), 0
  first = ""
  for number, line in _lines(path):
    where = f"{os.fspath(path)}:{number}"
    count += 1
    try:
      row = rows.parse_object(line)
      record = parse(row, where)
    except rows.BadRow as bad:
      reason, problem, remedy = bad.args
      if on_error == "error":
        raise UserError(problem, where=where, remedy=remedy) from None
      skipped.append(Skipped(where, reason))
      first = first or f"{where}: {problem}"
      continue
    records.append(record)
    ignored.update(key for key in row if key not in fields)
  report = Report(
    path=os.fspath(path),
    read=count,
    used=len(records),
    skipped=tuple(skipped),
    ignored=tuple(sorted(ignored.items())),
    noun=noun,
  )
  if not records:
    raise UserError(
      f"no usable row ({report.summary()})." + (f" {first}" if first else ""),
      where=os.fspath(path),
      remedy="Check that it is the right file and the right source.",
    )
  return records, report


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
  """Yields (1-based number, bytes) of the lines that are not blank."""
  name = os.fspath(path)
  opener = gzip.open if name.endswith(".gz") else open
  try:
    with opener(name, "rb") as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          yield number, line
  except FileNotFoundError:
    raise UserError(
      "there is no such file.",
      where=name,
      remedy=f"Check the path; the working directory is {os.getcwd()}.",
    ) from None
  except (gzip.BadGzipFile, zlib.error, EOFError) as error:
    raise UserError(
      f"the file is not a whole gzip file ({error}).",
      where=name,
      remedy="Fetch it again, or take .gz off its name if it is plain text.",
    ) from None
  except OSError as error:
    raise UserError(
      f"the file cannot be read ({error.strerror or error}).",
      where=name,
      remedy="Give a file (not a folder) that you may read.",
    ) from None
