"""SFT, then a model of preferences that may run in a circle.

  jalign train --config=preference_model --workdir=runs/preference

`--config=preference_model:pairwise_preference` compares two responses by a head
that reads both; see `python -m jalign.losses` for other losses on scores. The
run can judge: --config.annotator.kind=model
--config.annotator.function=runs/preference.

Cost: about six minutes on 2 CPU cores, three of them for SFT.
Expect: held-out accuracy 59.6 % (56.8 to 62.4), NLL 0.664 nats, on 1,181 pairs
(one seed), where 72.5 % is possible.
"""

from ml_collections import ConfigDict

from jalign.configs import reward_model


def get_config(loss: str = "general_preference") -> ConfigDict:
  """Returns the config.

  Args:
    loss: name of a loss on the logits or the embeddings of pairs.
  """
  c = reward_model.get_config(loss)
  c.title = f"{loss} in the TL;DR world"
  return c
