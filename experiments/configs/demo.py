"""SFT, DPO, then online IPO against a reward function: the demo.

DPO: arXiv:2305.18290. Online IPO: Calandriello et al. 2024, arXiv:2403.08635.

  make demo

or, to change something:

  jalign train --config=experiments/configs/demo.py --workdir=runs/mine \
    --config.loss.tau=0.3

Cost: 50 s and 1.0 GiB on 2 CPU cores, after installation.
Expect: win rates under the reward, over the stage before: DPO 62.3 ± 4.4 %,
online IPO 58.6 ± 3.3 % (95 %, 100 held-out prompts x 2 samples, one seed); see
experiments/RESULTS.md.
"""

from ml_collections import ConfigDict

from experiments.configs import base, dpo


def get_config() -> ConfigDict:
  """Returns the config."""
  c = dpo.get_config()
  c.title = "jalign demo: an order desk learns to confirm orders"
  c.stages = ("sft", "dpo", "online_ipo")

  c.dpo = base.stage(dict(name="dpo", beta=0.1), epochs=3, eval_every=25)
  c.dpo.optimizer = c.optimizer.copy_and_resolve_references()

  # The last stage samples two answers a prompt, asks the reward, and steps.
  c.algorithm = "online_ipo"
  c.annotator.function = "experiments/data/demo_reward.py:reward"
  c.loss = ConfigDict(dict(tau=0.1))
  c.steps = 80
  c.eval_every = 20
  c.save_every = 40
  c.log_every = 5
  return c
