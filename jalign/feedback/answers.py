"""What judges see: prompts with responses, the rows of the data, the tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jalign.types import Sequences

Row = Mapping[str, Any]  # other columns of the data, by their names


class Answers(NamedTuple):
  """N responses, each with its prompt.

  Attributes:
    prompts: N texts, as people see them: without a goal that a conversion
      wrote into them.
    texts: N responses.
    rows: N mappings, {} for a response whose data has no other columns.
    sequences: the N rows of prompt and response as the model reads them; None
      where nobody asked for them.
  """

  prompts: Sequence[str]
  texts: Sequence[str]
  rows: Sequence[Row]
  sequences: Sequences | None = None

  def take(self, at: Sequence[int] | np.ndarray) -> "Answers":
    """Some of the answers, by their places."""
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
  """`Answers` of as many prompts as responses.

  Args:
    prompts: N.
    texts: N responses.
    rows: N, None where the data has no other columns.
    sequences: of N rows, or None.

  Raises:
    ValueError: they aren't equally many.
  """
  rows = [{}] * len(texts) if rows is None else rows
  if not len(prompts) == len(texts) == len(rows):
    raise ValueError(
      f"{len(prompts)} prompts, {len(texts)} responses, {len(rows)} rows"
    )
  return Answers(prompts, texts, rows, sequences)
