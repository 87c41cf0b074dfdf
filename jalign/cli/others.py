"""Commands that read a run, a checkpoint or a file of data."""

import pathlib

from jalign.cli.parsing import Flag, Values, columns, command, number, whole
from jalign.errors import UserError

SOURCE = Flag(
  "source", "NAME", "shape of the rows; by default guessed from the first row"
)
TEMPLATE = Flag(
  "template",
  "NAME",
  "how conversations become text: none, plain, a tokenizer's folder or a file"
  " of Jinja; the model's own template by default",
)
COLUMNS = Flag(
  "columns",
  "NAMES",
  "the file's columns for fields: FIELD=COLUMN,FIELD=COLUMN",
  read=columns,
)
RUN_IS_MODEL = {"run": "A run's folder is given by --model=DIR."}


def check_data(values: Values, *names: str) -> None:
  """Refuses flags on reading a file where no file is given."""
  for name in names:
    if getattr(values, name) and not values.data:
      raise UserError(
        "needs a file of data, and no file is given.",
        where=f"--{name}",
        remedy="Give --data=FILE, too.",
      )


@command(
  Flag("model", "DIR", "the folder of a run", required=True),
  Flag("against", "DIR", "another run, to compare with"),
  Flag("data", "FILE", "pairs to score in place of the run's held-out pairs"),
  COLUMNS,
  hints=RUN_IS_MODEL,
)
def evaluate(values: Values) -> None:
  """Prints a run's held-out accuracies, and win rates over another run.

  Accuracies have 95 % intervals, clustered by prompt. With --against, the two
  policies are sampled and judged where the run's config names an annotator. Of
  a run that trained a reward or preference model, the accuracy, likelihood and
  calibration of its scores are printed.

  examples:
    jalign evaluate --model=runs/dpo
    jalign evaluate --model=runs/dpo --against=runs/ipo --data=pairs.jsonl
  """
  check_data(values, "columns")

  from jalign.experiment.commands.inspect import evaluate_run

  against = pathlib.Path(values.against) if values.against else None
  run, data = pathlib.Path(values.model), values.data or ""
  print(evaluate_run(run, against, data, values.columns))


@command(
  Flag("stage", "NAME", "the stage to show; the last stage by default", ""),
  Flag("out", "DIR", "folder of the page; RUN/dynamics by default"),
  Flag("format", "KIND", "pdf or svg also writes plots to plots/", "png"),
  words="RUN [RUN ...]",
)
def report(values: Values) -> None:
  """Writes a page on what training did to policies, with runs overlaid.

  The page shows log-probs, gradients, entropy and samples over the steps, as
  far as the runs' configs had these measured (`jalign keys diagnostics`). RUN
  is the folder of a run.

  examples:
    jalign report runs/dpo
    jalign report runs/dpo runs/ipo --out=runs/both --format=pdf
  """
  if not values.words:
    raise UserError("report needs one or more folders of runs.")

  from jalign.experiment.commands.training_page import report_runs

  out = pathlib.Path(values.out) if values.out else None
  folders = [pathlib.Path(run) for run in values.words]
  print(report_runs(folders, out, values.stage, values.format))


@command(
  Flag(
    "data",
    "FILE",
    "further pairs, such as pairs from another source; may be given again",
    several=True,
  ),
  COLUMNS,
  Flag("out", "DIR", "a new folder for the page", required=True),
  words="RUN [RUN ...]",
)
def rewards(values: Values) -> None:
  """Compares explicit and implicit rewards of runs on the same pairs.

  The page shows accuracies on the held-out pairs that the runs have in common,
  and on every FILE, with paired differences, calibration, and accuracy by gap
  and by length. RUN is the folder of a run that trained a score head or, by a
  loss with a reference, a policy.

  example:
    jalign rewards runs/reward_model runs/dpo --data=shifted.jsonl \\
      --out=runs/rewards
  """
  if not values.words:
    raise UserError("rewards needs one or more folders of runs.")
  check_data(values, "columns")

  from jalign.experiment.commands.rewards import compare_runs

  folders = [pathlib.Path(run) for run in values.words]
  out, data = pathlib.Path(values.out), values.data or ()
  print(compare_runs(folders, out, data, values.columns))


@command(
  Flag("model", "DIR", "the folder of a run", required=True),
  Flag("to", "DIR", "a new folder", required=True),
  Flag("adapter", "", "write only the low-rank change", False),
  hints=RUN_IS_MODEL,
)
def convert(values: Values) -> None:
  """Writes a run's model as a checkpoint that transformers opens.

  A reward model is written for sequence classification; what transformers has
  no place for is written beside it and said. With --adapter, the low-rank
  change that the last stage trained is written as an adapter that PEFT opens.
  `jalign train --config.init_from=CHECKPOINT`
  starts a run from a checkpoint.

  examples:
    jalign convert --model=runs/dpo --to=models/dpo
    jalign convert --model=runs/lora --to=models/lora --adapter
  """
  from jalign.experiment.commands.export import export_adapter, export_run

  export = export_adapter if values.adapter else export_run
  print(export(pathlib.Path(values.model), pathlib.Path(values.to)))


@command(
  Flag("model", "DIR", "a checkpoint, or its name on the hub", required=True),
  Flag("adapter", "DIR", "a PEFT adapter of that model", required=True),
  Flag("to", "DIR", "a new folder", required=True),
)
def merge(values: Values) -> None:
  """Adds a PEFT adapter to its checkpoint.

  example:
    jalign merge --model=models/Qwen3-0.6B --adapter=models/lora \\
      --to=models/merged
  """
  from jalign.experiment.commands.export import merge_adapter

  print(merge_adapter(values.model, values.adapter, pathlib.Path(values.to)))


@command(
  Flag(
    "model", "DIR", "a run, a checkpoint, or its name on the hub", required=True
  ),
  Flag("data", "FILE", "rows with responses", required=True),
  Flag("out", "FILE", "a new parquet file", required=True),
  Flag("reference", "DIR", "another model, for implicit rewards", ""),
  Flag("beta", "X", "the beta of implicit rewards", 0.1, number),
  SOURCE,
  COLUMNS,
  TEMPLATE,
  Flag("batch_size", "N", "responses at a time", 8, whole(1)),
  Flag("skip_bad_rows", "", "leave out rows that can't be read", False),
)
def score(values: Values) -> None:
  """Writes the log-probs and entropies of a file's responses, by token.

  With a reference, implicit rewards are written, too. A reward model (a run
  that trained a score head, or a checkpoint for sequence classification) writes
  its score, or one score for each objective; a preference model writes the mean
  probability that a response is preferred to the other responses of its row.
  For pairs and ranked lists, the accuracy is printed.

  example:
    jalign score --model=models/dpo --reference=models/Qwen3-0.6B \\
      --data=chats.jsonl --out=scores.parquet
  """
  from jalign.experiment.commands.score import score as write_scores

  lines = write_scores(
    values.model,
    values.data,
    pathlib.Path(values.out),
    reference=values.reference,
    source=values.source or "",
    template=values.template or "",
    beta=values.beta,
    batch_size=values.batch_size,
    skip_bad_rows=values.skip_bad_rows,
    columns=values.columns,
  )
  print("\n".join(lines))


@command(
  SOURCE,
  Flag("against", "PATH", "other data, to count prompts that are in both"),
  Flag("tokenizer", "DIR", "a tokenizer, to count tokens, too"),
  Flag(
    "template", "NAME", "chat template: plain, a tokenizer's folder or a file"
  ),
  Flag("data_dir", "DIR", "the folder of prepared TFDS data"),
  Flag("columns", "NAMES", "the columns, FIELD=COLUMN,...", read=columns),
  words="check PATH",
)
def data(values: Values) -> None:
  """Says what is in a file of data, and what may be wrong with it.

  The command reports rows that can't be read, lengths, repeated rows, labels,
  and prompts that are in the other file, too. PATH is a file of JSON lines or
  parquet, a saved Hugging Face dataset or tfds:NAME[/CONFIG][:SPLIT].

  examples:
    jalign data check train.jsonl --against=eval.jsonl
    jalign data check rows.parquet --columns=prompt=question,chosen=good
  """
  words = values.words
  if len(words) != 2 or words[0] != "check":
    raise UserError(
      "data needs the word check and one PATH.",
      remedy="jalign data check FILE.jsonl [--source=NAME ...]",
    )

  from jalign import data
  from jalign.data.file_check import check_file
  from jalign.data.findings import describe

  template = values.template
  if template == "plain":
    template = data.PLAIN_CHAT
  elif template and values.tokenizer:
    template = data.load_template(template, tokens_of=values.tokenizer)
  checked = check_file(
    words[1],
    values.source,
    values.against,
    tokenizer=data.load(values.tokenizer) if values.tokenizer else None,
    template=template,
    data_dir=values.data_dir,
    columns=values.columns,
  )
  print("\n".join(describe(checked)))
