"""`jalign judge check`."""

import os
import pathlib
import sys
from typing import Any

from jalign.cli.config_file import read_config
from jalign.cli.others import COLUMNS, SOURCE
from jalign.cli.parsing import Flag, Values, command, whole
from jalign.errors import UserError


@command(
  Flag("config", "NAME[:ARG]", "a config that names the judge"),
  Flag(
    "annotator",
    "FILE.py:NAME",
    "the judge, in place of config.annotator.function",
  ),
  Flag("kind", "KIND", "the judge's kind, in place of config.annotator.kind"),
  Flag("data", "FILE", "labelled pairs, or ranked lists", required=True),
  SOURCE,
  COLUMNS,
  Flag(
    "template",
    "NAME",
    "chat template of conversations: plain, a tokenizer's folder or a file",
  ),
  Flag("pairs", "N", "judge only N pairs, spread over the file", 0, whole(0)),
  Flag("out", "FILE.json", "a file for the numbers"),
  Flag("page", "DIR", "a folder for a page with a figure"),
  words="check",
  takes_keys=True,
)
def judge(values: Values) -> None:
  """Asks a judge about labelled pairs in both orders, and says what it's worth.

  The check prints how often the verdict changes with the order, which place the
  judge prefers, ties, the agreement with the labels, by length of the
  responses, too, questions without an answer, and the cost. Means have 95 %
  intervals, clustered by prompt. Any judge of a config can be checked, with
  --config.annotator.settings and --config.data.judge_columns as in training.

  examples:
    jalign judge check --annotator=my.py:reward --data=pairs.jsonl
    jalign judge check --config=judge.py --data=pairs.jsonl --pairs=200
  """
  if values.words != ["check"]:
    raise UserError(
      "judge needs the word check.",
      remedy="jalign judge check --data=FILE [--annotator=FILE.py:NAME ...]",
    )
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours

  from jalign import data
  from jalign.experiment.commands.judge_check import check

  keys = list(values.keys)
  if not values.config:  # which then has no data of its own
    keys.insert(0, ("data.path", values.data))
  keys += [("annotator.function", values.annotator)] if values.annotator else []
  keys += [("annotator.kind", values.kind)] if values.kind else []
  config: dict[str, Any] = read_config(values.config or "checkpoint", keys)
  template = values.template
  lines = check(
    config,
    values.data,
    source=values.source or "",
    template=data.PLAIN_CHAT
    if template == "plain"
    else data.load_template(template)
    if template
    else None,
    columns=values.columns,
    most=values.pairs,
    out=pathlib.Path(values.out) if values.out else None,
    page=pathlib.Path(values.page) if values.page else None,
  )
  print("\n".join(lines))
