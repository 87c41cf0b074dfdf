"""Any loss that data can train, by name, in the demo's world.

  jalign train --config=world:kto --workdir=runs/kto

Losses on pairs are trained on labelled pairs, losses on lists on ranked lists,
losses on labels on labelled responses, and losses on scores on the responses of
the ranked lists. Losses on distributions need a context, a file of text:
--config.data.context=FILE. All runs start from the demo's SFT policy, and the
demo's population judges them. `python -m jalign.losses` lists the names of
losses; their hyperparameters are flags, --config.loss.beta=0.3 for example.

Cost: about 3 minutes on 2 CPU cores, two of them for SFT.
"""

from ml_collections import ConfigDict

from jalign import losses
from jalign.configs import base, demo
from jalign.experiment.config import loss_section

# Kind of a loss's batch -> data to train on.
_DATA = {
  "pairs": "preferences[:8000]",
  "segments": "preferences[:8000]",
  "lists": "ranked[:4000]",
  "ranked_segments": "ranked[:4000]",
  "unpaired": "binary[:12000]",
  "sequences": "sft[:8000]",
  "tokens": "sft[:8000]",
  "distributions": "sft[:8000]",
}


def get_config(loss: str = "dpo") -> ConfigDict:
  """Returns the config.

  Args:
    loss: name in the catalogue, name of a preset, or FILE.py:NAME.
  """
  c = demo.get_config()
  c.title = f"{loss} in the TL;DR world"
  c.stages = ("warmup", "sft", "align")
  for other in ("dpo", "online_dpo", "online_ipo"):
    del c[other]
  c.algorithm = ""
  c.loss = base.loss(loss)
  function, entry = loss_section.resolve(loss)
  scored = {"rewards", "values"} & set(losses.array_parameters(function))
  kind = "lists" if scored else entry.batch
  if kind in _DATA:  # other kinds are refused by name when the run begins
    c.data.path = _DATA[kind]
  c.optimizer.learning_rate = 3e-4
  c.optimizer.b1 = 0.9
  c.batch_size = 16 if kind in ("lists", "ranked_segments") else 64
  c.steps = 120
  c.report = ""
  return c
