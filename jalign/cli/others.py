"""The commands that look at a run, a checkpoint or a file of data."""

import pathlib
from collections.abc import Sequence

from absl import flags

from jalign.cli.parsing import parse_flags
from jalign.errors import UserError


def evaluate(arguments: Sequence[str]) -> None:
  """Prints a run's held-out results."""
  values = flags.FlagValues()
  flags.DEFINE_string("run", None, "run folder", flag_values=values)
  flags.DEFINE_string("against", None, "another run", flag_values=values)
  flags.DEFINE_string("data", None, "pairs to score", flag_values=values)
  parse_flags(values, arguments)
  if not values.run:
    raise UserError("evaluate needs --run=DIR.")

  from jalign.experiment.commands.inspect import evaluate_run

  against = pathlib.Path(values.against) if values.against else None
  print(evaluate_run(pathlib.Path(values.run), against, values.data or ""))


def report(arguments: Sequence[str]) -> None:
  """Writes the page of one or more runs' dynamics."""
  values = flags.FlagValues()
  flags.DEFINE_string("stage", "", "the last by default", flag_values=values)
  flags.DEFINE_string("out", None, "folder of the page", flag_values=values)
  flags.DEFINE_string("format", "png", "pdf, svg, too", flag_values=values)
  runs = parse_flags(values, arguments, words=len(arguments))
  if not runs:
    raise UserError("report needs one or more folders of runs.")

  from jalign.experiment.commands.training_page import report_runs

  out = pathlib.Path(values.out) if values.out else None
  folders = [pathlib.Path(run) for run in runs]
  print(report_runs(folders, out, values.stage, values.format))


def convert(arguments: Sequence[str]) -> None:
  """Writes a run's policy, or its adapter, for others."""
  values = flags.FlagValues()
  flags.DEFINE_string("run", None, "run folder", flag_values=values)
  flags.DEFINE_string("to", None, "a new folder", flag_values=values)
  flags.DEFINE_bool("adapter", False, "alone", flag_values=values)
  parse_flags(values, arguments)
  if not values.run or not values.to:
    raise UserError("convert needs --run=DIR and --to=DIR.")

  from jalign.experiment.commands.export import export_adapter, export_run

  export = export_adapter if values.adapter else export_run
  print(export(pathlib.Path(values.run), pathlib.Path(values.to)))


def merge(arguments: Sequence[str]) -> None:
  """Adds an adapter to its checkpoint."""
  values = flags.FlagValues()
  flags.DEFINE_string("model", None, "checkpoint", flag_values=values)
  flags.DEFINE_string("adapter", None, "of PEFT", flag_values=values)
  flags.DEFINE_string("to", None, "a new folder", flag_values=values)
  parse_flags(values, arguments)
  if not values.model or not values.adapter or not values.to:
    raise UserError("merge needs --model=DIR, --adapter=DIR and --to=DIR.")

  from jalign.experiment.commands.export import merge_adapter

  print(merge_adapter(values.model, values.adapter, pathlib.Path(values.to)))


def score(arguments: Sequence[str]) -> None:
  """Writes log-probs of a file's responses."""
  values = flags.FlagValues()
  flags.DEFINE_string("model", None, "run, checkpoint", flag_values=values)
  flags.DEFINE_string("data", None, "its responses", flag_values=values)
  flags.DEFINE_string("out", None, "parquet file", flag_values=values)
  flags.DEFINE_string("reference", "", "another model", flag_values=values)
  flags.DEFINE_string("source", "", "of the rows", flag_values=values)
  flags.DEFINE_string("template", "", "of chats", flag_values=values)
  flags.DEFINE_float("beta", 0.1, "of rewards", flag_values=values)
  flags.DEFINE_integer("batch_size", 8, "responses", 1, flag_values=values)
  flags.DEFINE_bool("skip_bad_rows", False, "and say", flag_values=values)
  parse_flags(values, arguments)
  if not values.model or not values.data or not values.out:
    raise UserError("score needs --model=DIR, --data=FILE and --out=FILE.")

  from jalign.experiment.commands.score import score as write_scores

  lines = write_scores(
    values.model,
    values.data,
    pathlib.Path(values.out),
    reference=values.reference,
    source=values.source,
    template=values.template,
    beta=values.beta,
    batch_size=int(values["batch_size"].value or 0),
    skip_bad_rows=values.skip_bad_rows,
  )
  print("\n".join(lines))


def data(arguments: Sequence[str]) -> None:
  """Prints what is in a file of data."""
  values = flags.FlagValues()
  flags.DEFINE_string("source", None, "of the rows", flag_values=values)
  flags.DEFINE_string("against", None, "another file", flag_values=values)
  flags.DEFINE_string("tokenizer", None, "its folder", flag_values=values)
  flags.DEFINE_string("template", None, "of chats", flag_values=values)
  flags.DEFINE_string("data_dir", None, "of TFDS", flag_values=values)
  flags.DEFINE_list("columns", [], "field=column", flag_values=values)
  words = parse_flags(values, arguments, words=len(arguments))
  if len(words) != 2 or words[0] != "check":
    raise UserError(
      "data needs the word check and one PATH.",
      remedy="jalign data check FILE.jsonl [--source=NAME ...]",
    )

  from jalign import data
  from jalign.data.file_check import check_file
  from jalign.data.findings import describe

  template = values.template
  if template and values.tokenizer:
    template = data.load_template(template, tokens_of=values.tokenizer)
  checked = check_file(
    words[1],
    values.source,
    values.against,
    tokenizer=data.load(values.tokenizer) if values.tokenizer else None,
    template=template,
    data_dir=values.data_dir,
    columns=_columns(values.columns),
  )
  print("\n".join(describe(checked)))


def _columns(named: Sequence[str]) -> dict[str, str]:
  """Field of the source -> column of the file."""
  for renaming in named:
    if not all(renaming.partition("=")):
      raise UserError(
        f"{renaming!r} names no field and its column.",
        where="--columns",
        remedy="Write --columns=FIELD=COLUMN,FIELD=COLUMN.",
      )
  return dict(renaming.split("=", 1) for renaming in named)
