"""What starts from a reward model: further reward models, and critics."""

import pathlib

from jalign.errors import UserError
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.heads import named_head
from jalign.experiment.scorer import Scorer
from jalign.hosts import say
from jalign.models import ModelConfig, hf
from jalign.training.trainable import HEAD, MODEL
from jalign.types import Params


def check_head(
  base: pathlib.Path, config: ModelConfig, stage: StageSettings
) -> None:
  """Checks that a stage trains the head of the checkpoint that it starts from.

  What the stage takes over is said. Shapes of parameters are compared later.

  Args:
    base: folder of a reward model's checkpoint.
    config: the checkpoint's model.
    stage: settings of a stage that trains a score head.

  Raises:
    UserError: the stage trains another head.
  """
  head, named = hf.read_reward_head(base), named_head(config, stage)
  assert named is not None  # the stage reads a head
  if named[0] != head.name:
    raise UserError(
      f"{base} has the head {head.name}, and {stage.name} trains the head"
      f" {named[0]}.",
      where=f"config.{stage.name}.head",
      remedy="Choose a loss on what the checkpoint's head gives, or start from"
      " a model without a head.",
    )
  names = f" of {', '.join(head.names)}" if head.names else ""
  say(f"[{stage.name}] goes on with the head {head.name}{names} of {base}")
  if head.padding is not None:
    say(
      f"[{stage.name}] scores of {base} are read before the padding (token"
      f" {head.padding}); from here on, they are read at a response's last"
      " token, whatever it is"
    )


def critic_params(scorer: Scorer) -> Params:
  """Parameters of a critic that starts from a reward model.

  The critic's value of a prefix (`jalign.models.values`) is the score that the
  reward model would give a response that ended there. At the token at which the
  reward model reads a score, the value is the reward, with the constant
  subtracted that judges subtract.

  A critic that starts from the reward model: Ouyang et al. 2022,
  arXiv:2203.02155, appendix C.4.

  Args:
    scorer: a reward model with the head `scalar`.

  Returns:
    {"model": ..., "head": {"weight": [D], "bias": []}}.

  Raises:
    UserError: the scorer has another head.
  """
  if scorer.form or getattr(scorer.head, "score", None) is None:
    raise UserError(
      "a critic has one value for each token, and the model's head doesn't give"
      " one score.",
      where=scorer.name,
      remedy="Take a reward model with the head scalar.",
    )
  head = dict(scorer.params[HEAD])
  return {
    MODEL: scorer.params[MODEL],
    HEAD: head | {"bias": head["bias"] - scorer.constant},
  }
