"""Any online algorithm, by name, in the demo's world.

  jalign train --config=online:rloo --workdir=runs/rloo

All algorithms start from the demo's SFT policy and learn from the same judge,
the world's gold reward, whose preferences are sigmoid(2 (r - r')). `python -m
jalign.online` lists the names, and the table on the site's page "Online
algorithms" says what each of them has reached here. The judge that runs in a
circle is --config.annotator.function=jalign.data.tldr_world:population
--config.annotator.kind=batch; it has preferences and no reward.

Hyperparameters are flags: --config.loss.beta=0.3 those of the loss,
--config.algorithm_settings.samples=8 those of the algorithm.

Cost: about four minutes on 2 CPU cores, two and a half of them for SFT.
Expect: see the table.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jalign.configs import demo
from jalign.online import ALGORITHMS


class Settings(NamedTuple):
  """What suits an algorithm in this world.

  Attributes:
    loss: hyperparameters of the loss.
    algorithm: hyperparameters of the algorithm's functions.
    rate: learning rate.
  """

  loss: dict[str, Any] = {}
  algorithm: dict[str, Any] = {}
  rate: float = 1e-3


_PPO = Settings(
  dict(value_clip=0.5),
  dict(samples=2, passes=2, minibatches=2, whiten=True),
  5e-4,
)
# An algorithm that isn't here takes the defaults of its functions.
SETTINGS = {
  "online_dpo": Settings(dict(beta=0.1)),
  "online_ipo": Settings(dict(tau=0.03)),
  "ipo_md": Settings(dict(tau=0.03)),
  "nash_md": Settings(dict(tau=0.01)),
  "nash_md_token_kl": Settings(dict(tau=0.01)),
  "nash_ema": Settings(dict(tau=0.03), dict(decay=0.98)),
  "self_play": Settings(dict(tau=0.03)),
  "best_response": Settings(dict(tau=0.03)),
  "nash_mirror_prox": Settings(dict(tau=0.03, step=2.0), dict(inner=5)),
  "egpo": Settings(dict(tau=0.03)),
  "inpo": Settings(dict(tau=0.03, eta=0.1), dict(every=10)),
  "sppo": Settings(dict(eta=5.0), dict(every=10)),
  "iterative_dpo": Settings(dict(beta=0.3), dict(every=25)),
  "selm": Settings(dict(beta=0.3, alpha=0.01), dict(every=25)),
  "xpo": Settings(dict(beta=0.1, alpha=1e-3)),
  "reinforce": Settings(algorithm=dict(samples=4)),
  "reinforce_segments": Settings(algorithm=dict(samples=4)),
  "remax": Settings(algorithm=dict(samples=2)),
  "dr_grpo": Settings(dict(length=16.0)),
  "p3o": Settings(algorithm=dict(samples=4)),
  "f_dpg_reverse_kl": Settings(algorithm=dict(beta=0.3), rate=3e-4),
  "f_dpg_forward_kl": Settings(algorithm=dict(beta=0.3), rate=3e-4),
  "f_dpg_js": Settings(algorithm=dict(beta=0.3)),
  "f_dpg_tv": Settings(algorithm=dict(beta=0.3)),
  "f_dpg_forward_chi2": Settings(algorithm=dict(beta=0.3), rate=3e-4),
  "f_dpg_reverse_chi2": Settings(algorithm=dict(beta=0.3), rate=3e-4),
  "raft": Settings(algorithm=dict(every=5)),
  "ppo": _PPO,
  "ppo_segments": _PPO,
}


def get_config(algorithm: str = "online_dpo") -> ConfigDict:
  """Returns the config.

  Args:
    algorithm: a row of jalign.online.ALGORITHMS.
  """
  c = demo.get_config()
  c.title = f"{algorithm} in the TL;DR world"
  c.stages = ("warmup", "sft", "align")
  for other in ("dpo", "online_dpo", "online_ipo"):
    del c[other]
  c.algorithm = algorithm  # an unknown name is refused when the run begins
  settings = SETTINGS.get(algorithm, Settings())
  c.loss = ConfigDict(settings.loss)
  c.algorithm_settings = ConfigDict(settings.algorithm)
  c.optimizer.learning_rate = settings.rate
  row = ALGORITHMS.get(algorithm)
  # Momentum makes iterates circle where preferences run in a circle.
  c.optimizer.b1 = 0.0 if row is not None and row.game else 0.9
  if row is not None and row.critic:
    c.critic.learning_rate_scale = 3.0
  c.annotator.function = "jalign.data.tldr_world:gold_reward"
  c.annotator.kind = "reward"
  c.annotator.scale = 2.0
  if row is not None and row.needs.segments:
    c.annotator.function = "jalign.data.tldr_world:gold_segments"
    c.annotator.kind = "segments"
  c.annotator.opponents = ""
  c.steps, c.eval_every, c.save_every = 100, 25, 50
  c.sample.prompts = c.sample.eval_prompts = 256
  c.sample.best_of = 0
  c.report = ""
  return c
