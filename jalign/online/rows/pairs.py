"""Algorithms that take one preference between two draws."""

from jalign.online.algorithm import Algorithm
from jalign.online.arrange import drawn_pairs, first_responses, soft_pairs
from jalign.online.draws import MIXTURE, POLICY
from jalign.online.judging import Needs

_SELF_PLAY = (POLICY, POLICY)
_OF_THE_MIXTURE = (MIXTURE, MIXTURE)
_AGAINST_THE_MIXTURE = (POLICY, MIXTURE)
_A_PREFERENCE = Needs(preference=((0, 1),))
_IPO, _NASH = "arXiv:2403.08635", "arXiv:2312.00886"

ROWS = {
  "online_dpo": Algorithm(
    _SELF_PLAY,
    _A_PREFERENCE,
    drawn_pairs,
    "dpo",
    "arXiv:2402.04792",
    about="DPO on two samples, ordered by the judge",
  ),
  "online_ipo": Algorithm(
    _SELF_PLAY,
    _A_PREFERENCE,
    soft_pairs,
    "ipo_soft",
    _IPO,
    game=True,
    about="IPO on two samples of the policy",
  ),
  "ipo_md": Algorithm(
    _OF_THE_MIXTURE,
    _A_PREFERENCE,
    soft_pairs,
    "ipo_soft",
    _IPO,
    game=True,
    about="IPO on two samples of the mixture with the reference",
  ),
  "nash_md": Algorithm(
    _AGAINST_THE_MIXTURE,
    _A_PREFERENCE,
    first_responses,
    "nash_md",
    _NASH,
    game=True,
    about="policy gradient against the mixture with the reference",
  ),
  "nash_md_token_kl": Algorithm(
    _AGAINST_THE_MIXTURE,
    _A_PREFERENCE,
    first_responses,
    "nash_md_token_kl",
    _NASH,
    game=True,
    about="Nash-MD with TRL's penalty, a token's own log-ratio",
  ),
}
