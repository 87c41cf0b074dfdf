"""`jalign judge check` and `jalign judge kinds`."""

import functools
import inspect
import os
import pathlib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
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
  Flag("data", "FILE", "labelled pairs, or ranked lists"),
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
  words="check | kinds",
  takes_keys=True,
)
def judge(values: Values) -> None:
  """Asks a judge about labelled pairs in both orders: is it worth asking?

  `jalign judge kinds` lists the kinds of judges that a config can name, with
  their settings. The check prints how often the verdict changes with the order,
  which place the judge prefers, ties, the agreement with the labels, by length
  of the responses, too, questions without an answer, and the cost. Means have
  95 % intervals, clustered by prompt. Any judge of a config can be checked,
  with --config.annotator.settings and --config.data.judge_columns as in
  training.

  examples:
    jalign judge kinds
    jalign judge check --annotator=my.py:reward --data=pairs.jsonl
    jalign judge check --config=judge.py --data=pairs.jsonl --pairs=200
  """
  if values.words == ["kinds"]:
    if values.data or values.annotator or values.kind or values.config:
      raise UserError(
        "the list of kinds takes no flags.",
        where="judge kinds",
        remedy="Ask a judge with `jalign judge check`.",
      )
    print("\n".join(_kinds()))
    return
  if values.words != ["check"] or not values.data:
    raise UserError(
      "judge needs a file of data."
      if values.words == ["check"]
      else "judge needs the word check or kinds.",
      remedy="jalign judge check --data=FILE [--annotator=FILE.py:NAME ...]",
    )
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours

  from jalign import data
  from jalign.experiment.commands.judge_check import check

  keys = list(values.keys)
  keys += [("annotator.function", values.annotator)] if values.annotator else []
  keys += [("annotator.kind", values.kind)] if values.kind else []
  config: dict[str, Any] = read_config(values.config or "checkpoint", keys)
  trained_on = config.get("data")
  if isinstance(trained_on, dict) and not trained_on.get("path"):
    trained_on["path"] = values.data  # only so that the config can be read
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


def _kinds() -> Iterator[str]:
  """Yields the lines that describe all kinds of judges."""
  from jalign.experiment.judges import JUDGES
  from jalign.losses.signature import hyperparameters

  width = min(max(shutil.get_terminal_size((80, 24)).columns, 72), 100)
  wrapped = functools.partial(
    textwrap.wrap,
    width=width,
    initial_indent="  ",
    subsequent_indent="  ",
    break_on_hyphens=False,
  )
  for name, kind in JUDGES.items():
    yield name
    yield from wrapped(f"{kind.about}.")
    settings = hyperparameters(kind.make)
    told = ", ".join(f"{key} = {_shown(x)}" for key, x in settings.items())
    yield from wrapped(f"settings: {told}") if told else ()
    yield ""
  yield "A config names a judge in config.annotator: function, kind, settings."


def _shown(value: Any) -> str:
  if value is inspect.Parameter.empty:
    return "(needed)"
  return repr(dict(value) if isinstance(value, Mapping) else value)
