"""Best-of-n under a preference, where there is no reward to maximise."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError


def best_of_n(
  responses: Sequence[Any],
  n: int,
  preference_fn: Callable[[Sequence[Any], Sequence[Any]], ArrayLike],
) -> np.ndarray:
  """Picks, of n responses to each prompt, the one that beats the others most.

  It is argmax_j mean_{k != j} P(y_j > y_k), the Borda winner, and the first of
  several equal ones. Under a Bradley-Terry preference it is the response of
  highest reward, up to nearly equal rewards.

  Args:
    responses: P * n responses; a prompt's responses are adjacent.
    n: responses per prompt, at least 2.
    preference_fn: `(a, b) -> [P * n]` P(a beats b), in the same order, NaN for
      no judgement; called n - 1 times. The mean is then over the judgements
      that were made, and a response without any is picked last.

  Returns:
    [P] indices into `responses`.
  Returns:
    [P] indices into `responses`.

  Raises:
    UserError: n doesn't divide the number of responses, or is below 2.
  """
  if n < 2 or len(responses) % n:
    raise UserError(
      f"{len(responses)} responses can't be {n} (>= 2) per prompt."
    )
  order = np.arange(len(responses)).reshape(-1, n)
  wins, judged = np.zeros(order.shape), np.zeros(order.shape)
  for shift in range(1, n):
    others = np.roll(order, -shift, axis=1).reshape(-1)
    p = preference_fn(responses, [responses[int(i)] for i in others])
    p = np.asarray(p, np.float64).reshape(order.shape)
    wins += np.nan_to_num(p, nan=0.0)
    judged += ~np.isnan(p)
  # Sums in another order differ in the last bits; such wins count as tied.
  means = np.where(judged > 0, wins / np.maximum(judged, 1), -1.0)
  best = np.round(means, 6).argmax(1)
  return order[np.arange(len(order)), best]
