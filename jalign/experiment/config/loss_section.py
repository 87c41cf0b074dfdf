"""The section `loss` of a config: the loss that it names, and its keys."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jalign import losses
from jalign.errors import UserError, meant
from jalign.experiment.config import own_loss
from jalign.experiment.config.parse import plain
from jalign.losses.catalogue import check_settings
from jalign.losses.presets import PRESETS
from jalign.online import ALGORITHMS
from jalign.online import hyperparameters as settings_of

Read = Callable[[Any, Any, str], Any]  # (value, type, where) -> value

LIST = (
  "`python -m jalign.losses` lists them; a loss of your own is FILE.py:NAME."
)


def function_of(name: str, where: str) -> Callable[..., Any]:
  """Returns the function of a loss, or the function that makes a preset.

  Args:
    name: name in the catalogue or of a preset; or "FILE.py:NAME".
    where: config key of the section, for errors.

  Raises:
    UserError: there is no such loss.
  """
  if own_loss.is_own(name):
    return own_loss.load(name, where)
  if name in PRESETS:
    return PRESETS[name]
  if name in losses.CATALOGUE:
    return losses.CATALOGUE[name].function
  raise UserError(
    f"unknown loss {name!r}.",
    where=f"{where}.name",
    remedy=f"{meant(str(name), (*losses.CATALOGUE, *PRESETS))}{LIST}",
  )


def resolve(name: str) -> tuple[Callable[..., Any], losses.Entry]:
  """Returns a loss with its default hyperparameters, and its row.

  Args:
    name: as in `function_of`.

  Raises:
    UserError: there is no such loss.
  """
  if own_loss.is_own(name):
    return own_loss.bound(name, {}, "config.loss")
  function_of(name, "config.loss")  # its error names the key
  return losses.resolve(name)


def section_of(name: str, where: str = "config.loss") -> dict[str, Any]:
  """Makes the section of a loss: its name, and its hyperparameters' defaults.

  Defaults that no file can hold, such as functions and arrays, are left out.

  Args:
    name: as in `function_of`.
    where: config key of the section, for errors.
  """
  values = losses.hyperparameters(function_of(name, where))
  return {"name": name} | {k: v for k, v in values.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
  """Whether a value is made of numbers and texts."""
  if isinstance(value, tuple | list):
    return all(map(_is_plain, value))
  return value is None or isinstance(value, bool | int | float | str)


def set_loss(
  config: Any,
  section: Any,
  names: Sequence[str],
  value: Any,
  read: Read,
  where: str,
) -> None:
  """Sets a key below `loss`, or the whole section.

  Args:
    config: config of the run.
    section: section of the stage; for the last stage, the config itself.
    names: parts of the key below `loss`.
    value: value for the key.
    read: `(value, type, where) -> value`.
    where: the whole key, for errors.

  Raises:
    UserError: there is no such key.
  """
  at = where.removesuffix("".join(f".{name}" for name in names))
  loss = _inherited(config, section, "loss")
  if not names:
    if isinstance(value, str) and not value.lstrip().startswith("{"):
      raise UserError(
        f"{value!r} is not a section of keys.",
        where=where,
        remedy=f"Name a loss by {where}.name={value}",
      )
    section["loss"] = read(value, Mapping, where)
  elif list(names) == ["name"]:
    name = read(value, str, where)
    if name != loss.get("name"):
      section["loss"] = section_of(name, at)
  elif names[0] == "weights":
    weights = loss if "weights" in loss else {"weights": {}}
    if names[1:]:
      weights["weights"][".".join(names[1:])] = read(value, float, where)
    else:
      weights["weights"] = read(value, Mapping, where)
    section["loss"] = weights
  else:
    _set_hyperparameter(config, section, loss, names, value, read, where, at)


def _set_hyperparameter(
  config, section, loss, names, value, read, where, at
) -> None:
  *term, key = names
  if "weights" in loss and not term:
    raise UserError(
      f"the loss is a sum, and {key!r} is not one of its terms.",
      where=where,
      remedy=f"Its terms are {', '.join(loss['weights'])}: {at}.TERM.{key}.",
    )
  if len(term) > 1 or (term and term[0] not in loss.get("weights", ())):
    there = loss.get("weights", ())
    raise UserError(
      f"{names[0]!r} is not a term of the loss.",
      where=where,
      remedy=f"{meant(names[0], there)}Set {at}.weights.{names[0]} first."
      if there
      else f"Hyperparameters are keys of {at} itself.",
    )
  name = term[0] if term else _name(config, section, loss)
  if name is None:
    raise UserError(
      "the loss has no name yet.", where=where, remedy=f"Set {at}.name, too."
    )
  if isinstance(name, str):
    function = function_of(name, at)
  else:
    function, name = name.function, losses.name_of(name.function)
  if own_loss.is_own(name) and key in own_loss.KEYS:
    loss[key] = read(value, type(own_loss.KEYS[key]), where)
  else:
    try:
      check_settings(name, function, {key: value})
    except UserError as e:
      raise UserError(e.problem, where=where, remedy=e.remedy) from None
    target = loss.setdefault(term[0], {}) if term else loss
    target[key] = read(value, _hint(function, key), where)
  section["loss"] = loss


def set_algorithm(config: Any, section: Any, algorithm: str) -> None:
  """Sets the algorithm; removes settings, and the loss of another algorithm."""
  before = _inherited(config, section, "algorithm")
  if algorithm == before:
    return
  loss = _inherited(config, section, "loss")
  had = _name(config, section, loss)
  section["algorithm"] = algorithm
  section["algorithm_settings"] = {}
  known = isinstance(algorithm, str) and algorithm in ALGORITHMS
  if known and had != ALGORITHMS[algorithm].loss:
    section["loss"] = {}


def hint_of_algorithm(
  config: Any, section: Any, names: Sequence[str], where: str
) -> Any:
  """Returns the type of a hyperparameter of the algorithm that a stage names.

  Raises:
    UserError: the stage has no algorithm, or its algorithm has no such
      hyperparameter.
  """
  algorithm = _inherited(config, section, "algorithm")
  if algorithm not in ALGORITHMS:
    raise UserError(
      "the stage has no algorithm." if not algorithm else "unknown algorithm.",
      where=where,
      remedy=f"{meant(algorithm, ALGORITHMS)}Set the key algorithm, too.",
    )
  known = settings_of(ALGORITHMS[algorithm])
  if len(names) > 1 or names[0] not in known:
    raise UserError(
      f"{algorithm} has no hyperparameter {'.'.join(names)!r} beside its"
      " loss's.",
      where=where,
      remedy=f"{meant(names[0], known)}It has: {_listed(known)}.",
    )
  return _of_default(known[names[0]])


def _inherited(config: Any, section: Any, name: str) -> Any:
  """Returns a key's value for a stage: its own, else the last stage's.

  Sections are copied.
  """
  default: Any = {} if name == "loss" else ""
  value = section.get(name, config.get(name, default))
  if hasattr(value, "to_dict"):
    value = value.to_dict()
  return plain(value)


def _name(config: Any, section: Any, loss: Mapping[str, Any]) -> Any:
  """Returns the name of a stage's loss, an algorithm's own Entry, or None."""
  algorithm = _inherited(config, section, "algorithm")
  if algorithm in ALGORITHMS:
    return ALGORITHMS[algorithm].loss
  return loss.get("name")


def _hint(function: Callable[..., Any], key: str) -> Any:
  """Returns the type of a hyperparameter, by annotation or else by default."""
  parameter = inspect.signature(function).parameters[key]
  written = parameter.annotation
  if written in (int, float, bool, str):
    return written
  return _of_default(parameter.default)


def _of_default(default: Any) -> Any:
  """Returns the type of a default; Any for 1, which may be meant as 1.0."""
  return type(default) if isinstance(default, bool | float | str) else Any


def _listed(known: Iterable[str]) -> str:
  return ", ".join(known) or "none"
