"""SFT, then IPO-MD against a reward function.

Calandriello et al. 2024, "Human Alignment of Large Language Models through
Online Preference Optimisation", arXiv:2403.08635: online IPO whose samples
come from the geometric mixture with the reference (weight 0.125).

  jalign train --config=ipo_md --workdir=runs/ipo_md

`--config=ipo_md:online_ipo` and `--config=ipo_md:online_dpo` train by online
IPO and online DPO instead.

Cost: 38 s on 2 CPU cores.
Expect: win rate over SFT under the reward 70.7 ± 3.6 % (95 %, 100 held-out
prompts x 2 samples, one seed).
"""

from ml_collections import ConfigDict

from jalign.configs import dpo


def get_config(algorithm: str = "ipo_md") -> ConfigDict:
  """Returns the config.

  Args:
    algorithm: a row of jalign.online.ALGORITHMS.
  """
  c = dpo.get_config()
  c.title = f"{algorithm} against a reward"
  c.algorithm = algorithm
  c.annotator.function = "jalign.configs.data.demo_reward:reward"
  is_dpo = algorithm == "online_dpo"
  c.loss = ConfigDict(dict(beta=0.1) if is_dpo else dict(tau=0.1))
  c.steps = 80
  c.log_every = 5
  return c
