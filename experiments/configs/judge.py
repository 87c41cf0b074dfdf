"""SFT, then online IPO against a learned judge.

  jalign train --config=preference_model --workdir=runs/preference
  jalign train --config=judge:runs/preference --workdir=runs/judged

The argument is the folder of a reward model or of a preference model, or
several folders with commas between, which judge together. The policy learns
from that judge alone. The population of readers who labelled the judge's pairs
measures the policy as `annotator.gold`: where the judge's numbers rise and
theirs fall, the policy exploits the judge.

Cost: about five minutes on 2 CPU cores, three of them for SFT.
Expect: with the config's preference model, 62 % of wins over SFT under the
judge and 53 % under the readers after 100 steps (256 samples, one seed);
policies that learn from the readers reach 68 %.
"""

from ml_collections import ConfigDict

from jalign.configs import demo


def get_config(judge: str = "runs/preference") -> ConfigDict:
  """Returns the config.

  Args:
    judge: folder of a run that trained a score head, or of such a checkpoint.
  """
  c = demo.get_config()
  c.title = "Online IPO against a learned judge"
  c.stages = ("warmup", "sft", "align")
  for other in ("dpo", "online_dpo", "online_ipo"):
    del c[other]
  c.algorithm = "online_ipo"
  c.loss = ConfigDict(dict(tau=0.03))
  c.annotator.function = judge
  c.annotator.kind = "model"
  c.annotator.gold = dict(
    function="jalign.data.tldr_world:population", kind="batch"
  )
  c.eval_every = 20
  c.report = ""
  c.sample.best_of = 0
  return c
