"""Scores are numbers: what score, sample and evaluate share."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jalign.errors import UserError


def check_finite(
  scores: Sequence[Any] | np.ndarray, sources: Sequence[str], where: str = ""
) -> None:
  """Raises unless all log-probs of some responses are finite.

  Args:
    scores: of each response: its log-probs, or their sum; nats.
    sources: where each response comes from.
    where: of the error message: the model.

  Raises:
    UserError: counts the responses whose log-probs aren't, and names the first.
  """
  bad = [i for i, x in enumerate(scores) if not np.isfinite(x).all()]
  if bad:
    raise UserError(
      f"the log-probs of {len(bad):,} of {len(scores):,} responses aren't"
      f" finite, first of {sources[bad[0]]}.",
      where=where,
      remedy="Its parameters are damaged or diverged (take an earlier"
      " checkpoint), or activations overflow (take dtype float32 or bfloat16).",
    )
