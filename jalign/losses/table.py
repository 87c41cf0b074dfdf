"""The catalogue as a table of the README."""

from jalign.losses.catalogue import CATALOGUE
from jalign.losses.signature import array_parameters, hyperparameters


def markdown_table() -> str:
  """One row a loss: name, batch, inputs, hyperparameters, paper.

  Returns:
    A Markdown table, its last line ended.
  """
  rows = [
    ("loss", "batch", "inputs", "hyperparameters", "paper"),
    ("---",) * 5,
  ]
  for name, entry in CATALOGUE.items():
    inputs = [f"`{array}`" for array in array_parameters(entry.function)]
    settings = [
      f"`{key}={value}`"
      for key, value in hyperparameters(entry.function).items()
    ]
    link = f"[{entry.paper}](https://arxiv.org/abs/{entry.paper})"
    rows.append(
      (f"`{name}`", entry.batch, ", ".join(inputs), ", ".join(settings), link)
    )
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)
