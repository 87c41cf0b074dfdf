"""SFT, then a reward model that knows who judges.

The limits of accuracy on sampled labels are 72.7 % for a model that doesn't
know the rater, and 93.7 % for one that knows the rater's group. Measured: 300
steps of pal_logistic from a finished SFT stage took 5 minutes on a busy CPU and
reached 73.6 % of 386 held-out pairs of known raters, still rising. vpl wasn't
run to its end: a step reads 18 rows for each pair, those of the rater's other
pairs.
"""

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
  c.select, c.select_mode = "eval/score_accuracy", "max"
  return c
