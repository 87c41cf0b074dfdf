"""The score head of a stage whose loss reads one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jalign import losses
from jalign.errors import UserError, nearest
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.loss import BoundLoss, bind
from jalign.models import RATER_HEADS, ModelConfig
from jalign.models.heads import HEADS as OF_RESPONSES

_SIZE = 8  # of a model's states, where only a head's functions are looked at
HEADS: Mapping[str, Callable[..., Any]] = {**OF_RESPONSES, **RATER_HEADS}


def head_of(config: ModelConfig, stage: StageSettings) -> Any:
  """The score head that a stage trains; None if its loss reads no head.

  Args and Raises as in `named_head`.
  """
  named = named_head(config, stage)
  return (
    None if named is None else _made(named[0], config.hidden_size, named[1])
  )


def named_head(
  config: ModelConfig, stage: StageSettings
) -> tuple[str, dict[str, Any]] | None:
  """Name and settings of the head that a stage trains, as `HEADS` has them.

  Args:
    config: the model's config.
    stage: the stage's settings. Without a name in `head`, the head is the row
      of `HEADS` that gives what the loss takes and the least beside it.

  Returns:
    (name, settings); None if the stage's loss reads no head.

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
    name = _first(loss)
  elif name not in HEADS:
    raise UserError(
      f"unknown head {name!r}.", where=where, remedy=nearest(name, HEADS)
    )
  known = settings_of(name)
  for key in settings:
    if key not in known:
      raise UserError(
        f"the head {name} has no setting {key!r}.",
        where=f"{where}.{key}",
        remedy=nearest(key, known) if known else "It has none.",
      )
  head = _made(name, config.hidden_size, settings, where)
  if not _gives(head, needed):
    able = [n for n in HEADS if _gives(_made(n, _SIZE, {}), needed)]
    raise UserError(
      f"{loss.title} needs a head that can {' and '.join(sorted(needed))},"
      f" which {name} can't.",
      where=where,
      remedy=f"Choose {' or '.join(able)}.",
    )
  return name, settings


def settings_of(name: str) -> dict[str, Any]:
  """The settings of a head, with their defaults."""
  parameters = [*inspect.signature(HEADS[name]).parameters.values()]
  return {p.name: p.default for p in parameters[1:]}


def form_of(loss: BoundLoss) -> str:
  """The form of a head's preferences that a loss trains; "" without one.

  Returns:
    A key of `jalign.models.preferences.FORMS`.
  """
  names = losses.array_parameters(loss.function)
  if "first_embeddings" in names:
    return "embedded"
  if "swapped_logits" not in names:
    return ""
  terms = losses.name_of(loss.function).split(" + ")  # more than one of a sum
  mean = "pairwise_preference_averaged" in terms
  return "averaged" if mean else "difference"


def sign_of(loss: BoundLoss) -> float:
  """-1 for a loss on costs, of which less is better; else 1."""
  names = losses.array_parameters(loss.function)
  return -1.0 if "harmful_costs" in names else 1.0


def check_head(
  stage: StageSettings, loss: BoundLoss, examples: Sequence[Any]
) -> None:
  """Checks the settings of a head that the data decide.

  Args:
    stage: the stage's settings.
    loss: the stage's loss.
    examples: the training examples.

  Raises:
    UserError: a setting has another value.
  """
  if not loss.batch.head:
    return
  name = stage.head.get("name", "") or _first(loss)
  known = settings_of(name)
  for key, value in loss.batch.head_settings(examples).items():
    given = stage.head.get(key, known.get(key, value))
    if key in known and given != value:
      raise UserError(
        f"{given!r} isn't what the training data have: {value}.",
        where=f"config.{stage.name}.head.{key}",
        remedy=f"Set --config.head.name={name} --config.head.{key}={value}",
      )


def _first(loss: BoundLoss) -> str:
  """The head that gives what a loss takes, and the least beside it."""
  needed = _needed(loss)
  heads = {name: _made(name, _SIZE, {}) for name in HEADS}
  able = [name for name, head in heads.items() if _gives(head, needed)]
  more = lambda name: sum(f is not None for f in heads[name])
  return min(able, key=more)


def reads_head(stage: StageSettings) -> bool:
  """Whether a stage's loss reads a head; False if the loss's code is gone."""
  try:
    return bool(bind(stage).batch.head)
  except UserError:
    return False


def _made(name: str, size: int, settings: Any, where: str = "head"):
  try:
    return HEADS[name](size, **settings)
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
  of, names = loss.batch.head, losses.array_parameters(loss.function)
  return {of[n] for n in names if n in of} | {*loss.batch.of_head}


def _gives(head: Any, needed: set[str]) -> bool:
  return all(getattr(head, name, None) is not None for name in needed)
