"""SFT, then a reward model on pairs, in the demo's world."""

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
  c.algorithm = ""
  c.loss = base.loss(loss)
  c.optimizer.learning_rate = 1e-3
  c.optimizer.b1 = 0.9
  c.batch_size = 64
  c.steps, c.epochs = 0, 1
  c.eval_every = c.save_every = 50
  c.select = "eval/score_nll_nats"
  c.report = ""
  c.sample.prompts = 100
  c.sample.best_of = 0
  return c
