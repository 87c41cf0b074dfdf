"""Asks a config's judge about labelled pairs (`jalign judge check`)."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign import data
from jalign.data.columns import Columns, read_columns
from jalign.data.file_check import guess
from jalign.data.schema import place_of
from jalign.errors import UserError
from jalign.evaluation.clustered import Mean
from jalign.evaluation.judge_check import (
  JudgeCheck,
  check_judge,
  numbers,
  warnings,
)
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.plugins import load_annotator
from jalign.feedback import Answers, Judge, assess, compare, make_answers
from jalign.feedback.counts import say_counts
from jalign.pages.report import Section, Table, write_report
from jalign.pages.reward_model import reward_model_section
from jalign.sharding import make_mesh
from jalign.training.progress import Progress

_AT_A_TIME = 256  # pairs


class Asked(NamedTuple):
  """What a judge said about N labelled pairs.

  Attributes:
    first: [N] P(the chosen response is preferred), shown first; NaN for none.
    second: [N] the same, shown second.
    responses: number of responses that got a reward.
    comparisons: number of ordered pairs that were compared.
    seconds: time that the judge took.
  """

  first: np.ndarray
  second: np.ndarray
  responses: int
  comparisons: int
  seconds: float


def ask_both_orders(judge: Judge, chosen: Answers, rejected: Answers) -> Asked:
  """Asks a judge for each pair's preference in both orders.

  A judge of rewards is asked once for each response.

  Args:
    judge: the judge.
    chosen: the preferred answers of N pairs.
    rejected: the other answers.
  """
  count = len(chosen.texts)
  found = np.full((2, count), np.nan)
  began = time.monotonic()
  with Progress("judge", "pair", count) as progress:
    for start in range(0, count, _AT_A_TIME):
      at = np.arange(start, min(start + _AT_A_TIME, count))
      sides = [assess(judge, side.take(at)) for side in (chosen, rejected)]
      found[0, at] = compare(judge, *sides)
      found[1, at] = 1 - compare(judge, *reversed(sides))
      progress.update(at.size)
  return Asked(
    found[0],
    found[1],
    2 * count if judge.reward is not None else 0,
    2 * count if judge.preference is not None else 0,
    time.monotonic() - began,
  )


def check(
  config: Mapping[str, Any],
  path: str,
  *,
  source: str = "",
  template: data.ChatTemplate | None = None,
  columns: Columns | None = None,
  most: int = 0,
  out: pathlib.Path | None = None,
  page: pathlib.Path | None = None,
) -> list[str]:
  """Checks the annotator of a config on the labelled pairs of a file.

  Args:
    config: a run's config, whose annotator and data.judge_columns are read.
    path: data with pairs, or with ranked lists, all pairs of which are judged.
    source: name of a reader; "" guesses it.
    template: chat template of conversations, or None.
    columns: the file's names for the source's fields.
    most: number of pairs, spread evenly over the file; 0 for all.
    out: a new JSON file of the numbers, or None.
    page: a folder for a page with a figure, or None.

  Returns:
    The results as lines.

  Raises:
    UserError: the config names no judge, the data has no pairs, or the judge
      answers about none.
  """
  settings = parse(config)
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    judge = load_annotator(settings)
    if judge is None:
      raise UserError(
        "the config names no judge.",
        where="config.annotator",
        remedy="Give --annotator=FILE.py:NAME and --kind=KIND; a judge made of"
        " others is described in annotator.settings of a --config=FILE.py.",
      )
    names = settings.data.judge_columns
    tops = [*names, *(name.partition(".")[0] for name in names)]
    pairs, lines = _pairs(path, source, template, columns, tops)
    if most and most < len(pairs):
      lines.append(f"{most:,} of {len(pairs):,} pairs, spread over the file")
      at = np.linspace(0, len(pairs) - 1, most).round().astype(int)
      pairs = [pairs[i] for i in at]
    rows = _rows(path, names, pairs, settings.data.data_dir or None)
    prompts = [pair.plain or pair.prompt for pair in pairs]
    sides = [
      make_answers(prompts, [getattr(pair, side) for pair in pairs], rows)
      for side in ("chosen", "rejected")
    ]
    asked = ask_both_orders(judge, *sides)
  words = [[len(x.split()) for x in side.texts] for side in sides]
  labels = [1.0 if x.preference is None else x.preference for x in pairs]
  checked = check_judge(
    asked.first,
    asked.second,
    labels=labels,
    chosen_tokens=words[0],
    rejected_tokens=words[1],
    groups=prompts,
  )
  say_counts(judge, "[judge]")
  lines += told(checked, asked)
  if out is not None:
    costs = {
      "responses": asked.responses,
      "comparisons": asked.comparisons,
      "seconds": asked.seconds,
    }
    counts = dict(judge.counts()) if judge.counts is not None else {}
    told_all = numbers(checked) | {"cost": costs, "counts": counts}
    folders.write_json(out, {"data": path, **_finite(told_all)})
    lines.append(f"-> {out}")
  if page is not None:
    lines.append(f"-> {write_page(checked, asked, page, path)}")
  return lines


def told(check: JudgeCheck, asked: Asked) -> list[str]:
  """The results of a check as lines for people."""
  lines = [
    f"{check.pairs:,} pairs of {check.prompts:,} prompts, in both orders:"
    f" {_cost(asked)}"
  ]
  if check.unanswered:
    lines.append(
      f"  {check.unanswered:,} of {2 * check.pairs:,} questions got no answer;"
      f" {check.both:,} pairs have both"
    )
  width = max(len(name) for name, _ in _rows_of(check)) + 2
  lines += [f"  {name:<{width}}{value}" for name, value in _rows_of(check)]
  return lines + [f"  ! {text}" for text in warnings(check)]


def write_page(
  check: JudgeCheck, asked: Asked, folder: pathlib.Path, path: str
) -> pathlib.Path:
  """Writes a page with the results and a figure; returns its path."""
  orders = Section(
    "Both orders",
    [
      Table(("of the judge", "share, 95 % interval"), _rows_of(check)),
      *warnings(check),
    ],
  )
  scored = reward_model_section(
    {"judge": check.scored}, folder, title="Against the labels", name="judge"
  )
  return write_report(
    folder,
    title="A judge on labelled pairs",
    sections=[orders, scored],
    summary=f"{check.pairs:,} pairs of `{path}`: {_cost(asked)}. Lengths are in"
    " words.",
  )


def _rows_of(check: JudgeCheck) -> list[tuple[str, str]]:
  rows = [
    ("agreement with the labels", _share(check.agreement)),
    ("  chosen response first", _share(check.agreement_first)),
    ("  chosen response second", _share(check.agreement_second)),
    ("verdict changes with the order", _share(check.conflict)),
    ("  to the other response", _share(check.reversed)),
    ("verdicts for the first place", _share(check.first_place)),
    ("ties", _share(check.tied)),
  ]
  if check.order_effect is not None:
    effect = f"{check.order_effect:+.3f} in log-odds"
    rows.insert(6, ("  what the first place adds", effect))
  length = check.length
  if length is not None:
    rows += [
      ("prefers the longer response", _share(length.scorer)),
      ("  as the labels do", _share(length.labels)),
      ("  beyond the labels", _share(length.difference)),
      ("agreement, chosen longer", _share(length.chosen_longer)),
      ("agreement, chosen shorter", _share(length.chosen_shorter)),
    ]
  rows += [
    (
      f"agreement, {part.low:g} to {part.high:g} words apart",
      _share(part.accuracy),
    )
    for part in check.by_length
  ]
  return rows


def _share(mean: Mean) -> str:
  if not np.isfinite(mean.mean):
    return "-"
  low, high = (100 * x for x in mean.interval)
  if not np.isfinite(low):
    return f"{100 * mean.mean:.1f} %"
  return f"{100 * mean.mean:.1f} % ({low:.1f} to {high:.1f})"


def _cost(asked: Asked) -> str:
  parts = [
    f"{count:,} {what}"
    for count, what in (
      (asked.responses, "rewards"),
      (asked.comparisons, "comparisons"),
    )
    if count
  ]
  return f"{' and '.join(parts)} in {asked.seconds:.1f} s"


def _pairs(
  path: str,
  source: str,
  template: data.ChatTemplate | None,
  columns: Columns | None,
  read: Sequence[str],
) -> tuple[list[data.PreferenceRecord], list[str]]:
  """The labelled pairs of a file, and lines on what was read.

  Args:
    path: as in `check`, and so are `source`, `template` and `columns`.
    source: see `check`.
    template: see `check`.
    columns: see `check`.
    read: names of further columns, which the judge reads.
  """
  name = source or guess(path, columns=columns)
  options: dict[str, Any] = {}
  if columns:
    options["columns"] = columns
  if template is not None and name not in data.WITHOUT_TEMPLATE:
    options["template"] = template
  records, report = data.read(name, path, **options)
  ignored = tuple(pair for pair in report.ignored if pair[0] not in read)
  report = dataclasses.replace(report, ignored=ignored)
  lines = [report.summary()]
  if records and isinstance(records[0], data.RankedRecord):
    records, more = data.convert("all_ordered", records)
    lines += [more.summary()] if more else []
  if not records or not isinstance(records[0], data.PreferenceRecord):
    raise UserError(
      "the data has no labelled pairs.",
      where=path,
      remedy='Rows have "prompt", "chosen" and "rejected", or other names that'
      " --columns maps.",
    )
  return records, lines


def _rows(
  path: str,
  names: Sequence[str],
  pairs: Sequence[data.PreferenceRecord],
  data_dir: str | None,
) -> list[dict[str, Any]]:
  """The columns that the judge reads, for each pair."""
  if not names:
    return [{} for _ in pairs]
  places = [place_of(pair.source) for pair in pairs]
  folder = pathlib.Path(data_dir) if data_dir else None
  rows = read_columns(path, names, set(places), folder)
  return [rows[place] for place in places]


def _finite(value: Any) -> Any:
  """The value with None for numbers that JSON lacks."""
  if isinstance(value, Mapping):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value
