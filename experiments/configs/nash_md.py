"""SFT, then Nash-MD against a reward function's preferences.

Munos et al. 2023, "Nash Learning from Human Feedback", arXiv:2312.00886: the
policy gradient of a game in which the policy's response has to beat a response
of the geometric mixture of policy and reference (weight 0.125), less the KL to
the reference.

  jalign train --config=nash_md --workdir=runs/nash_md

`--config.mix_ref=0` is self-play. A token pays for its own log-ratio and for
later log-ratios, as in the gradient of the KL; in TRL's form,
`--config=nash_md:nash_md_token_kl`, a token pays only for its own log-ratio.

Cost: 75 s on 2 CPU cores, which did other work too.
Expect: win rate over SFT under the reward 68.0 ± 3.8 % (95 %, 100 held-out
prompts x 2 samples, one seed).
"""

from ml_collections import ConfigDict

from jalign.configs import ipo_md


def get_config(algorithm: str = "nash_md") -> ConfigDict:
  """Returns the config.

  Args:
    algorithm: "nash_md" or "nash_md_token_kl".
  """
  c = ipo_md.get_config(algorithm)
  # tau weighs win rates, which are at most 1: much smaller than IPO's.
  c.loss = ConfigDict(dict(tau=0.01))
  return c
