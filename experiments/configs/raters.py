"""SFT, then a reward model that knows who judges, in the demo's world."""

from ml_collections import ConfigDict

from jalign.configs import base, reward_model


def get_config(loss: str = "vpl") -> ConfigDict:
  """Returns the config.

  Args:
    loss: "vpl", which infers a rater from other pairs; or "pal_logistic" or
      "pal_hinge", which have weights for each rater.
  """
  c = reward_model.get_config()
  c.title = f"{loss} on raters of the TL;DR world"
  c.stages = ("warmup", "sft", "raters")
  c.data.path = "raters[:8000]"  # 400 raters of three groups, 20 pairs each
  c.loss = base.loss(loss)
  if loss == "vpl":
    c.data.eval_path = "raters[8000:9000]"  # raters never seen
    c.head = ConfigDict(dict(name="vpl"))
  else:
    c.head = ConfigDict(dict(name="pal_a", raters=400, prototypes=3))
  c.batch_size = 32
  c.epochs = 3
  c.select = "eval/score_accuracy"
  return c
