"""The score head of a stage whose loss reads one."""

from typing import Any

from jalign import losses
from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.loss import BoundLoss, bind
from jalign.losses.signature import hyperparameters
from jalign.models import ModelConfig
from jalign.models.heads import HEADS


def head_of(config: ModelConfig, stage: StageSettings) -> Any:
  """The score head that a stage trains; None if its loss reads no head.

  Args:
    config: the model's config.
    stage: the stage's settings. Without a name in `head`, the head is the first
      row of `HEADS` that gives what the loss takes.

  Raises:
    UserError: the head is unknown, has no such settings, or doesn't give what
      the loss takes; or the loss reads no head, and the stage names a head.
  """
  where = f"config.{stage.name}.head"
  settings = dict(stage.head)
  name = settings.pop("name", "")
  loss = bind(stage)
  if not loss.batch.head:
    if name or settings:
      raise UserError(
        f"{loss.title} reads no head.",
        where=where,
        remedy="Leave the head out, or choose a loss on scores"
        " (`python -m jalign.losses`).",
      )
    return None
  needed = _needed(loss)
  if not name:
    name = next(n for n in HEADS if _gives(_made(n, config, {}), needed))
  elif name not in HEADS:
    raise UserError(
      f"unknown head {name!r}.", where=where, remedy=nearest(name, HEADS)
    )
  known = hyperparameters(HEADS[name])
  for key in settings:
    if key not in known:
      raise UserError(
        f"the head {name} has no setting {key!r}.",
        where=f"{where}.{key}",
        remedy=nearest(key, known) if known else "It has none.",
      )
  head = _made(name, config, settings, where)
  if not _gives(head, needed):
    able = [n for n in HEADS if _gives(_made(n, config, {}), needed)]
    raise UserError(
      f"{loss.title} needs a head that can {' and '.join(sorted(needed))},"
      f" which {name} can't.",
      where=where,
      remedy=f"Choose {' or '.join(able)}.",
    )
  return head


def reads_head(stage: StageSettings) -> bool:
  """Whether a stage's loss reads a head; False if the loss's code is gone."""
  try:
    return bool(bind(stage).batch.head)
  except UserError:
    return False


def _made(name: str, config: ModelConfig, settings: Any, where: str = "head"):
  try:
    return HEADS[name](config.hidden_size, **settings)
  except UserError as e:
    raise UserError(
      e.problem, where=f"{where}.{e.where}".strip("."), remedy=e.remedy
    ) from None
  except Exception as e:  # settings of a wrong type, in a row of anyone's
    raise UserError(
      f"the head {name} can't be made with {settings} ({e}).", where=where
    ) from e


def _needed(loss: BoundLoss) -> set[str]:
  """Names of the head's functions that give what a loss takes."""
  of = loss.batch.head
  return {of[n] for n in losses.array_parameters(loss.function) if n in of}


def _gives(head: Any, needed: set[str]) -> bool:
  return all(getattr(head, name, None) is not None for name in needed)
