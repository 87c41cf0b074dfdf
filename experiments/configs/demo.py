"""SFT, DPO, then online IPO against a reward function: the demo.

DPO: arXiv:2305.18290. Online IPO: Calandriello et al. 2024, arXiv:2403.08635.

  make demo

or, to change something:

  jalign train --config=experiments/configs/demo.py --workdir=runs/mine \\
    --config.loss.tau=0.3

Cost: COST_LINE
Expect: EXPECT_LINE
"""

from ml_collections import ConfigDict

from experiments.configs import dpo


def get_config() -> ConfigDict:
  """Returns the config."""
  c = dpo.get_config()
  c.title = "jalign demo: customer notes, restated"
  c.stages = ("sft", "dpo", "online_ipo")
  c.annotator.function = "experiments/data/demo_reward.py:reward"

  # The last stage samples, asks the reward function, and steps.
  offline = dict(loss=c.loss, epochs=c.epochs, eval_every=c.eval_every)
  c.dpo = ConfigDict(offline)
  c.algorithm = "online_ipo"
  c.loss = ConfigDict(dict(tau=0.1))
  c.mix_ref = 0.125
  c.steps = 60
  c.sft.steps = 0
  c.sft.algorithm = c.dpo.algorithm = ""
  c.dpo.steps = 0
  c.save_every = 20
  c.log_every = 5
  return c
