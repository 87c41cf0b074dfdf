"""Algorithms that draw from an iterate, which the policy replaces at times.

While the setting `every` counts steps, the iterate stays as it is, and the
losses pull the policy to what the iterate's next step should be. XPO belongs
here because it explores as SELM does, but it draws from the policy itself.
"""

import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.online import carries
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged, picked
from jalign.online.draws import POLICY, REFERENCE
from jalign.online.judging import Needs, every_pair
from jalign.online.rows.ranking import (
  best_and_worst,
  preferences,
  samples_of,
)
from jalign.types import PairBatch, SequenceBatch

_ALL = Needs(preference=every_pair)


def pairs_of_the_iterate(
  judged: Judged, *, tournament: bool = False
) -> PairBatch:
  """Pairs with the judge's preference and the iterate's log-probs.

  Args:
    judged: responses of the iterate, compared with each other.
    tournament: whether of more than two responses the best and the worst are
      the pair, as in the paper's experiments. The pair is then no pair of
      independent samples of the iterate, for which the loss is made.

  Raises:
    UserError: there are more than two responses and no tournament.
  """
  size = samples_of(judged)
  if size > 2 and not tournament:
    raise UserError(
      f"{size} responses can't be used, because the loss is on two.",
      where="samples",
      remedy="Set samples to 2; or set tournament to True, for the best and the"
      " worst of them.",
    )
  places, won = best_and_worst(judged)
  return PairBatch(
    picked(judged.rollout.sequences, places, size),
    jnp.asarray(judged.weights),
    preference=jnp.asarray(won, jnp.float32),
    old_logps=picked(judged.old_token_logps.sum(-1), places, size),
  )


def responses_with_win_rates(
  judged: Judged, *, extremes: bool = False
) -> SequenceBatch:
  """The responses, each with its win rate over all K.

  A response's comparison with itself counts as 1/2, as in the authors' code.

  Args:
    judged: responses of the iterate, compared with each other.
    extremes: whether only the best and the worst are kept, as in the authors'
      code.
  """
  size, wins = samples_of(judged), preferences(judged).mean(-1)
  rows = judged.rollout.sequences
  if extremes:
    places, _ = best_and_worst(judged)
    rows = picked(rows, places, size)
    wins = np.take_along_axis(wins, places, 1)
  return SequenceBatch(
    rows,
    jnp.asarray(np.repeat(judged.weights, wins.shape[1])),
    preference=jnp.asarray(wins.reshape(-1), jnp.float32),
  )


def best_against_worst(
  judged: Judged, *, smoothing: float | None = None
) -> PairBatch:
  """The best and the worst response as a pair with a soft label.

  Args:
    judged: responses of the iterate, compared with each other.
    smoothing: None to take P(best > worst) as the label, which holds for this
      pair however it was chosen; or a number in [0, 0.5) by which the label is
      below 1: 0 for certain labels, 0.1 as in the public code.

  Raises:
    UserError: smoothing is out of range.
  """
  places, won = best_and_worst(judged)
  if smoothing is not None:
    number = isinstance(smoothing, int | float)
    if not number or not 0 <= smoothing < 0.5:
      raise UserError(
        f"{smoothing!r} is not in [0, 0.5).",
        where="smoothing",
        remedy="Choose 0 for certain labels, or leave the setting out for the"
        " judge's probabilities.",
      )
    won = np.full_like(won, 1 - smoothing)
  return PairBatch(
    picked(judged.rollout.sequences, places, samples_of(judged)),
    jnp.asarray(judged.weights),
    preference=jnp.asarray(won, jnp.float32),
  )


def ranked_beside_greedy(judged: Judged) -> PairBatch:
  """The best and the worst of all responses, beside the greedy response.

  The greedy response is the last draw, and takes part in the ranking.
  """
  size = samples_of(judged)
  places, _ = best_and_worst(judged)
  rows = judged.rollout.sequences
  last = np.full((len(places), 1), size - 1)
  return PairBatch(
    picked(rows, places, size),
    jnp.asarray(judged.weights),
    beside=picked(rows, last, size),
  )


def in_drawn_order(judged: Judged) -> PairBatch:
  """Pairs in the order of the draws, with P(the first > the second)."""
  return PairBatch(
    judged.rollout.sequences,
    jnp.asarray(judged.weights),
    preference=jnp.asarray(judged.preference[:, 0]),
  )


ROWS = {
  "inpo": Algorithm(
    (carries.ITERATE,) * 2,
    _ALL,
    pairs_of_the_iterate,
    "inpo",
    "arXiv:2407.00617",
    carry=carries.ITERATED,
    samples=(2, None),
    game=True,
    about="steps of mirror descent, each a regression on the iterate's pairs",
  ),
  "sppo": Algorithm(
    (carries.ITERATE,) * 5,
    _ALL,
    responses_with_win_rates,
    "sppo_win_rate",
    "arXiv:2405.00675",
    carry=carries.ITERATED,
    reference=carries.the_iterate,
    samples=(2, None),
    game=True,
    about="multiplicative weights, each a regression on win rates",
  ),
  # The label is soft by default: the public code's is 1 - smoothing.
  "iterative_dpo": Algorithm(
    (carries.ITERATE,) * 4,
    _ALL,
    best_against_worst,
    "dpo_soft",
    "arXiv:2405.07863",
    carry=carries.ITERATED,
    reference=carries.the_iterate,
    samples=(2, None),
    about="DPO on best and worst of K, with the iterate as the reference",
  ),
  # The paper's pair is from the data, and only then the iterate's; here all
  # three responses are the iterate's.
  "selm": Algorithm(
    (carries.ITERATE, carries.ITERATE, carries.GREEDY_ITERATE),
    _ALL,
    ranked_beside_greedy,
    "selm",
    "arXiv:2405.19332",
    carry=carries.ITERATED,
    reference=carries.the_iterate,
    samples=(2, None),
    about="DPO that moves away from the iterate's greedy response",
  ),
  "xpo": Algorithm(
    (POLICY, REFERENCE),
    Needs(preference=((0, 1),)),
    in_drawn_order,
    "xpo",
    "arXiv:2405.21046",
    about="DPO that moves away from the reference's responses",
  ),
}
