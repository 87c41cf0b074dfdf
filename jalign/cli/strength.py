"""`jalign strength`."""

import pathlib

from jalign.cli.others import COLUMNS, SOURCE
from jalign.cli.parsing import Flag, Values, command, number


@command(
  Flag("models", "RUN,RUN", "runs that trained reward models", required=True),
  Flag("data", "FILE", "labelled pairs as plain texts", required=True),
  Flag("out", "FILE.jsonl", "a new file of relabelled pairs", required=True),
  Flag("flipped", "X", "share of labels that are flipped", 0.2, number),
  Flag("ambiguous", "X", "share of labels that are softened", 0.2, number),
  Flag(
    "smoothing",
    "X",
    "probability of the rejected response in a soft label",
    0.1,
    number,
  ),
  SOURCE,
  COLUMNS,
)
def strength(values: Values) -> None:
  """Relabels pairs by how strongly several reward models prefer one side.

  The pairs that the models contradict most are flipped, the next ones get soft
  labels, and all get the models' mean gap as a margin. Train on the new file
  with bradley_terry, bradley_terry_soft or bradley_terry_margin, or with any
  loss on pairs.

  example:
    jalign strength --models=runs/rm/seed=0,runs/rm/seed=1,runs/rm/seed=2 \\
      --data=pairs.jsonl --out=relabelled.jsonl
  """
  from jalign.experiment.commands.strength import relabel

  lines = relabel(
    [name for name in values.models.split(",") if name],
    values.data,
    pathlib.Path(values.out),
    source=values.source or "",
    columns=values.columns,
    flipped=values.flipped,
    ambiguous=values.ambiguous,
    label_smoothing=values.smoothing,
  )
  print("\n".join(lines))
