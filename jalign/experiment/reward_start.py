"""What starts from a reward model: further reward models, and critics."""

import dataclasses
import pathlib

import jax

from jalign import data
from jalign.errors import UserError
from jalign.experiment.config.algorithms import trains_critic
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.context import Materials
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import is_checkpoint, tokenizer_folder
from jalign.experiment.heads import named_head
from jalign.experiment.scorer import Scorer, gives_at, is_scorer, load_scorer
from jalign.hosts import say
from jalign.models import ModelConfig, hf
from jalign.training.critic import CRITIC
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


def check_critic(
  stage: StageSettings, config: ModelConfig, tokenizer: data.Tokenizer
) -> None:
  """Checks that the critic of a stage can start where the stage says.

  Args:
    stage: settings of a stage with a critic.
    config: config of the policy.
    tokenizer: the policy's tokenizer.

  Raises:
    UserError: the start is no reward model with one score, or another model or
      tokenizer than the policy's.
  """
  if not stage.critic.start:
    return
  where = f"config.{stage.name}.critic.start"
  remedy = (
    "Name a reward model that was trained from this policy, or leave the key"
    " empty: the critic then starts from the policy."
  )
  base = hf.resolve(stage.critic.start)
  if not is_scorer(base) or gives_at(base) != ("reward",):
    raise UserError(f"{base} gives no rewards.", where=where, remedy=remedy)
  there = (
    hf.read_config(base) if is_checkpoint(base) else folders.model_of(base)
  )
  for field in dataclasses.fields(config):
    ours, theirs = getattr(config, field.name), getattr(there, field.name)
    if field.name not in (*hf.HOW, "rules") and ours != theirs:
      raise UserError(
        f"the critic has another architecture: {field.name} is {theirs!r} in"
        f" {base}, and the policy's {ours!r}.",
        where=where,
        remedy=remedy,
      )
  other = data.load(tokenizer_folder(base))
  if other.backend.to_str() != tokenizer.backend.to_str():
    raise UserError(
      f"{base} has another tokenizer than the policy.",
      where=where,
      remedy=remedy,
    )


def begins_from(
  given: Materials, stage: StageSettings, params: Params
) -> Params:
  """What a stage starts from: a policy, and a critic where one is named.

  Args:
    given: the mesh, and the model.
    stage: the stage's settings.
    params: the policy's parameters, or their shapes.

  Returns:
    `params`; or {"model": params, "critic": those of a reward model}.
  """
  if not (stage.critic.start and trains_critic(stage)):
    return params
  leaves = jax.tree.leaves(params)
  if any(isinstance(x, jax.ShapeDtypeStruct) for x in leaves):
    return params  # a plan: the critic has the policy's shapes
  scorer = load_scorer(str(hf.resolve(stage.critic.start)), given.mesh)
  say(f"[{stage.name}] the critic starts from {scorer.name}")
  return {MODEL: params, CRITIC: critic_params(scorer)}
