"""Reads, converts and splits the records of a run's sources."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jalign import data
from jalign.data.schema import line_of, name_lines
from jalign.errors import UserError
from jalign.experiment.config.settings import DataSettings


class Source(NamedTuple):
  """Records of one source.

  Attributes:
    where: config key of its settings.
    train: training records.
    held_out: held-out records.
    reports: reports of reading and, if there is one, of conversion.
    held_out_reports: reports of the file of held-out records; [] if those are
      a part of the training file.
    apart: number of training records left out because the run holds out their
      prompts.
    seen: places of held-out records whose prompts the run trains on, if the
      held-out records come from a file of their own.
  """

  where: str
  train: list[Any]
  held_out: list[Any]
  reports: list[data.Report]
  held_out_reports: list[data.Report] = []
  apart: int = 0
  seen: tuple[str, ...] = ()

  def without(self, judged: set[str]) -> "Source":
    """This source without the training records of some groups.

    Raises:
      UserError: no training record is left.
    """
    train = [record for record in self.train if record.group not in judged]
    if not train:
      raise UserError(
        "all records have prompts that are held out.",
        where=self.where,
        remedy="Give other data, or a smaller config.data.eval_fraction.",
      )
    return self._replace(train=train, apart=len(self.train) - len(train))


def read_source(
  settings: DataSettings, template: data.ChatTemplate | None, where: str
) -> Source:
  """Reads and splits one source.

  Args:
    settings: settings of the data.
    template: writes conversations, or None.
    where: config key of the settings.

  Raises:
    UserError: the data is bad, or the held-out records are of another kind.
  """
  records, reports = read_records(settings, settings.path, template, where)
  if settings.eval_path:
    held_out, others = read_records(
      settings, settings.eval_path, template, where
    )
    for part, at in ((records, settings.path), (held_out, settings.eval_path)):
      if not part:
        raise UserError("the file holds no usable record.", where=at)
    if type(held_out[0]) is not type(records[0]):
      raise UserError(
        f"the file holds {type(held_out[0]).__name__}s, and {where}.path holds"
        f" {type(records[0]).__name__}s.",
        where=f"{where}.eval_path",
        remedy="Give held-out records of the same kind.",
      )
    return Source(where, records, held_out, reports, others)
  train, held_out = data.split(
    records, settings.eval_fraction, settings.split_seed
  )
  return Source(where, train, held_out, reports)


def told_apart(sources: Mapping[DataSettings, Source], main: DataSettings):
  """Keeps training data apart from held-out data; returns the sources.

  If the run splits its data, no stage trains on the prompts that the main
  source holds out. If the user split the data, by `eval_path`, the records stay
  as they are, and the overlap is counted.
  """
  if not main.eval_path:
    judged = {record.group for record in sources[main].held_out}
    sources = {settings: s.without(judged) for settings, s in sources.items()}
  trained = trained_groups(sources.values())
  return {
    settings: source._replace(seen=seen_in(trained, source.held_out))
    if settings.eval_path
    else source
    for settings, source in sources.items()
  }


def trained_groups(sources: Iterable[Source]) -> frozenset[str]:
  """The split keys of all training records."""
  return frozenset(record.group for s in sources for record in s.train)


def seen_in(trained: frozenset[str], records: Iterable[Any]) -> tuple[str, ...]:
  """Places of the records whose prompts are trained on, by split key."""
  return tuple(r.source for r in records if r.group in trained)


def say_seen(seen: Sequence[str], of: int, noun: str) -> str:
  """A sentence on held-out records whose prompts are trained on."""
  lines = name_lines([line_of(where) for where in seen])
  return (
    f"{len(seen)} of {of} held-out {noun} have prompts that are trained on"
    f" ({lines}): what is measured on them isn't held out"
  )


def read_records(
  settings: DataSettings,
  path: str,
  template: data.ChatTemplate | None,
  where: str,
) -> tuple[list[Any], list[data.Report]]:
  """Reads a file or folder, and converts the records if asked to.

  Returns:
    (records, reports of reading and, if there is one, of conversion).

  Raises:
    UserError: the data is bad, or the conversion doesn't take the records.
  """
  options = {
    "on_error": settings.on_error,
    "data_dir": settings.data_dir,
    "template": template,
    "columns": dict(settings.columns),
  }
  try:
    records, report = data.read(
      settings.source, path, **{k: v for k, v in options.items() if v}
    )
  except UserError as e:
    if not e.where.startswith("columns"):
      raise
    at = f"{where}.{e.where}"
    raise UserError(e.problem, where=at, remedy=e.remedy) from e
  if settings.judge_columns:  # read in a second pass: see `judge_rows`
    tops = {name.partition(".")[0] for name in settings.judge_columns}
    tops |= set(settings.judge_columns)
    ignored = tuple(pair for pair in report.ignored if pair[0] not in tops)
    report = dataclasses.replace(report, ignored=ignored)
  reports = [report]
  if settings.convert:
    try:
      records, more = data.convert(settings.convert, records)
    except UserError as e:
      raise UserError(
        e.problem, where=f"{where}.convert", remedy=e.remedy
      ) from e
    reports += [more] if more else []
  if settings.context:
    records = _with_context(records, settings.context, where)
  return records, reports


def _with_context(records: list[Any], path: str, where: str) -> list[Any]:
  """Demonstrations with the text of a file as their context."""
  try:
    text = pathlib.Path(path).read_text("utf-8")
  except (OSError, UnicodeDecodeError) as e:
    raise UserError(
      f"the context can't be read: {e}.",
      where=f"{where}.context",
      remedy="Name a text file in UTF-8.",
    ) from e
  try:
    return data.with_context(records, text)
  except UserError as e:
    at = f"{where}.context"
    raise UserError(e.problem, where=at, remedy=e.remedy) from e
