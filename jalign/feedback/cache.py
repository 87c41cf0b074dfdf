"""Completions kept on disk, so that no question is paid for twice.

The file is an SQLite database with a row for each completion, under a hash of
the model, its settings, the messages and the sample's number. Several processes
of a computer may use a file at the same time. SQLite's locks don't work on most
network file systems: processes of several computers need a file each.

A sampled completion is kept as well: a question that is asked again gets the
same completion, also at temperature 1. Ask for several samples, or name another
file, for new ones.
"""

import contextlib
import json
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jalign import hosts
from jalign.errors import UserError
from jalign.feedback.completions import (
  Completion,
  LanguageModel,
  Question,
  key_of,
)

_TABLE = """CREATE TABLE IF NOT EXISTS completions (
  key TEXT PRIMARY KEY, question TEXT NOT NULL, completion TEXT NOT NULL
) WITHOUT ROWID"""
_WAIT = 60.0  # seconds that a process waits for another one's write
_MANY = 500  # keys of a query; SQLite takes 32,766 in recent versions


def cached(
  model: LanguageModel, path: str | pathlib.Path, where: str = "cache"
) -> LanguageModel:
  """The same language model, which keeps and reuses its completions.

  Each completion is written as soon as it is known, so that nothing is lost
  where a later question fails.

  Args:
    model: the model; `identity` must say all that decides its completions.
    path: the file; its folder must exist. The file is made where there is none.
    where: place of the path, for errors.

  Raises:
    UserError: the file can't be opened, or is no such database.
  """
  file = pathlib.Path(path)
  with _opened(file, where):
    pass  # so that a wrong path is found before anything is asked

  def complete(
    questions: Sequence[Question],
  ) -> Iterator[tuple[int, Completion]]:
    keys = [key_of(model.identity, question) for question in questions]
    with _opened(file, where) as database:
      known = _read(database, keys, f"{where}={file}")
    if model.together:  # all must ask for the same
      written = {key: _fields(known[key]) for key in known}
      agreed = hosts.exchange(written if hosts.host0() else {})[0]
      known = {key: Completion(**fields) for key, fields in agreed.items()}
    left = [i for i, key in enumerate(keys) if key not in known]
    model.tally.add({"cache hits": len(keys) - len(left)})
    for i, key in enumerate(keys):
      if key in known:
        yield i, known[key]
    if not left:
      return
    for at, completion in model.complete([questions[i] for i in left]):
      i = left[at]
      if hosts.host0() or not model.together:
        with _opened(file, where) as database:
          _write(database, keys[i], questions[i], completion)
      yield i, completion

  return model._replace(complete=complete)


def _read(
  database: sqlite3.Connection, keys: Sequence[str], where: str
) -> dict[str, Completion]:
  found: dict[str, Completion] = {}
  for start in range(0, len(keys), _MANY):
    some = keys[start : start + _MANY]
    marks = ",".join("?" * len(some))
    rows: Iterable[tuple[str, str]] = database.execute(
      f"SELECT key, completion FROM completions WHERE key IN ({marks})", some
    )
    for key, text in rows:
      found[key] = _completion(text, where)
  return found


def _completion(text: str, where: str) -> Completion:
  try:
    completion = Completion(**json.loads(text))
    if isinstance(completion.text, str):
      return completion
  except (TypeError, ValueError):
    pass
  raise UserError(
    f"a row is no completion: {text[:60]!r}.",
    where=where,
    remedy="Name a new file, or delete this one.",
  )


def _write(
  database: sqlite3.Connection,
  key: str,
  question: Question,
  completion: Completion,
) -> None:
  written = json.dumps(question._asdict()), json.dumps(_fields(completion))
  database.execute(
    "INSERT OR REPLACE INTO completions VALUES (?, ?, ?)", (key, *written)
  )


def _fields(completion: Completion) -> dict[str, Any]:
  fields = completion._asdict()
  if completion.label_logps is not None:
    fields["label_logps"] = dict(completion.label_logps)
  return fields


@contextlib.contextmanager
def _opened(file: pathlib.Path, where: str) -> Iterator[sqlite3.Connection]:
  """A connection within a transaction; errors become UserErrors."""
  try:
    database = sqlite3.connect(file, timeout=_WAIT)
    with contextlib.closing(database), database:
      database.execute(_TABLE)
      yield database
  except sqlite3.Error as error:
    raise UserError(
      f"the cache can't be used ({error}).",
      where=f"{where}={file}",
      remedy="Name a file in a folder that exists and can be written, which no"
      " other program has made.",
    ) from None
