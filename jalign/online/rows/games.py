"""Policy gradients of preference games: rows that differ in the opponent.

With the policy's own sample y and the opponent's y', each has the gradient
E grad log pi(y) [P(y > y') - 1/2 - tau log(pi(y) / reference(y))], in which a
token pays for its own and all later log-ratios. Where training rests, the
policy is reference exp(P(. > opponent) / tau), normalised: the Nash equilibrium
if the opponent has become the policy, and the best response to the reference if
the reference is the opponent.
"""

import jax.numpy as jnp
import numpy as np

from jalign.online import carries
from jalign.online.algorithm import Algorithm
from jalign.online.arrange import Judged, first_responses, firsts
from jalign.online.draws import POLICY, REFERENCE
from jalign.online.judging import Needs
from jalign.types import SequenceBatch

_A_PREFERENCE = Needs(preference=((0, 1),))
_NASH = "arXiv:2312.00886"


def both_responses(judged: Judged) -> SequenceBatch:
  """Both responses, each with P(it beats the other).

  Two samples of one policy are each other's opponents, so that a pair gives two
  estimates of the gradient.
  """
  won = judged.preference[:, 0]
  return SequenceBatch(
    judged.rollout.sequences,
    jnp.asarray(np.repeat(judged.weights, 2)),
    preference=jnp.asarray(np.stack([won, 1 - won], 1).reshape(-1)),
  )


def near_the_anchor(judged: Judged) -> SequenceBatch:
  """The first responses, with their log-probs under the anchor."""
  return first_responses(judged).replace(
    anchor_token_logps=firsts(judged.logps["anchor"])
  )


ROWS = {
  "nash_ema": Algorithm(
    (POLICY, carries.AVERAGE),
    _A_PREFERENCE,
    first_responses,
    "nash_md",
    _NASH,
    carry=carries.AVERAGED,
    game=True,
    about="policy gradient against a moving average of the parameters",
  ),
  "self_play": Algorithm(
    (POLICY, POLICY),
    _A_PREFERENCE,
    both_responses,
    "nash_md",
    _NASH,
    game=True,
    about="policy gradient of two samples against each other",
  ),
  "best_response": Algorithm(
    (POLICY, REFERENCE),
    _A_PREFERENCE,
    first_responses,
    "nash_md",
    _NASH,
    about="policy gradient against the reference",
  ),
  # The paper's steps are proximal; that they are taken by `inner` steps of a
  # policy gradient, which starts anew from the anchor, is our parametrisation.
  "nash_mirror_prox": Algorithm(
    (POLICY, carries.OPPONENT),
    _A_PREFERENCE,
    near_the_anchor,
    "nash_prox",
    "arXiv:2505.19731",
    scored=(carries.ANCHOR,),
    carry=carries.IN_PHASES,
    restart=carries.back_to_the_anchor,
    game=True,
    about="proximal half and full steps, each against a fixed opponent",
  ),
  # The paper's network descends a squared loss; the policy gradient is, up to
  # its scale, that loss's gradient on the policy's own samples.
  "egpo": Algorithm(
    (POLICY, carries.OPPONENT),
    _A_PREFERENCE,
    first_responses,
    "nash_md",
    "arXiv:2503.08942",
    carry=carries.EXTRAGRADIENT,
    restart=carries.back_to_the_anchor,
    game=True,
    about="extragradient: a trial step, then a step against the trial",
  ),
}
