"""SFT, then a reward model on pairs, in the demo's world.

  jalign train --config=reward_model --workdir=runs/reward

The pairs are of different kinds of summaries, labelled by many raters of three
groups with different criteria. The best accuracy of any model that doesn't know
the rater is 72.5 %. `--config=reward_model:LOSS` trains by another loss on
scores. The run can judge: see the config `judge`.

Cost: about six minutes on 2 CPU cores, three of them for SFT.
Expect: held-out accuracy 60.0 % (57.2 to 62.8), NLL 0.663 nats, on 1,181 pairs
(one seed): far below what is possible for a model of this size and budget.
"""

from ml_collections import ConfigDict

from jalign.configs import base, demo


def get_config(loss: str = "bradley_terry") -> ConfigDict:
  """Returns the config.

  Args:
    loss: name of a loss on scores.
  """
  c = demo.get_config()
  c.title = f"{loss} in the TL;DR world"
  c.stages = ("warmup", "sft", "reward")
  for other in ("dpo", "online_dpo", "online_ipo"):
    del c[other]
  c.data.path = "raters[:24000]"
  c.algorithm = ""
  c.loss = base.loss(loss)
  c.optimizer.learning_rate = 3e-3
  c.optimizer.warmup_steps = 20
  c.optimizer.b1 = 0.9
  c.batch_size = 64
  c.steps, c.epochs = 0, 2
  c.eval_every = c.save_every = 100
  c.select = "eval/loss"
  c.report = ""
  c.sample.prompts = 100
  c.sample.best_of = 0
  return c
