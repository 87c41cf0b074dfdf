"""Checks that scores are numbers, for `score`, `sample` and `evaluate`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jalign.errors import UserError


def check_finite(
  scores: Sequence[Any] | np.ndarray, sources: Sequence[str], where: str = ""
) -> None:
  """Checks that all log-probs of some responses are finite.

  Args:
    scores: for each response, its log-probs or their sum, nats.
    sources: where each response comes from.
    where: the model, for errors.

  Raises:
    UserError: some log-probs aren't finite; counts their responses and names
      the first.
  """
  bad = [i for i, x in enumerate(scores) if not np.isfinite(x).all()]
  if bad:
    raise UserError(
      f"the log-probs of {len(bad):,} of {len(scores):,} responses aren't"
      f" finite, first of {sources[bad[0]]}.",
      where=where,
      remedy="The model's parameters are damaged or diverged (take an earlier"
      " checkpoint), or activations overflow (take dtype float32 or bfloat16).",
    )
