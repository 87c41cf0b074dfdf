"""What judges see: prompts, responses, rows of the data, and tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.types import Sequences

Row = Mapping[str, Any]  # other columns of the data, by their names


class Answers(NamedTuple):
  """N responses, each with its prompt.

  Attributes:
    prompts: N texts, as people see them: without the goal that a data
      conversion may have written into the prompt.
    texts: N texts of responses.
    rows: N mappings of the data's other columns; {} where there are no other
      columns.
    sequences: N rows of prompt and response as the model reads them; None
      unless the judge reads tokens.
  """

  prompts: Sequence[str]
  texts: Sequence[str]
  rows: Sequence[Row]
  sequences: Sequences | None = None

  def take(self, at: Sequence[int] | np.ndarray) -> "Answers":
    """The answers at some indices."""
    return Answers(
      [self.prompts[i] for i in at],
      [self.texts[i] for i in at],
      [self.rows[i] for i in at],
      self.sequences and jax.tree.map(lambda x: x[at], self.sequences),
    )


def make_answers(
  prompts: Sequence[str],
  texts: Sequence[str],
  rows: Sequence[Row] | None = None,
  sequences: Sequences | None = None,
) -> Answers:
  """Makes `Answers`, and checks that there are equally many of everything.

  Args:
    prompts: N texts of prompts.
    texts: N texts of responses.
    rows: N mappings; None where the data has no other columns.
    sequences: N rows of tokens, or None.

  Raises:
    ValueError: the numbers of prompts, responses and rows differ.
  """
  rows = [{}] * len(texts) if rows is None else rows
  if not len(prompts) == len(texts) == len(rows):
    raise ValueError(
      f"{len(prompts)} prompts, {len(texts)} responses and {len(rows)} rows"
      " aren't equally many"
    )
  return Answers(prompts, texts, rows, sequences)
