"""Config files: loaded here, so that their errors name their lines."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jalign import configs
from jalign.errors import UserError, nearest
from jalign.experiment.config.functions import guarded, load_function
from jalign.feedback.values import refuse

_FORM = "() -> ConfigDict; --config=FILE.py:ARGUMENT gives it one argument"


def read_config(
  arguments: Sequence[str],
) -> tuple[ConfigDict | None, list[str]]:
  """The config that flags name, and the other flags.

  Raises:
    UserError: the file can't be run, its get_config raises or gives anything
      but a ConfigDict, or a flag sets a key that it lacks.
  """
  others, name, left = [], None, iter(arguments)
  for argument in left:
    flag, given, value = argument.partition("=")
    if flag in ("--config", "-config"):
      name = value if given else next(left, "")
    else:
      others.append(argument)
  if name is None:
    return None, others
  config = _load(name)
  for argument in others:
    flag, _, _ = argument.partition("=")
    if flag.startswith(("--config.", "-config.")):
      _check_key(config, flag.lstrip("-"))
  return config, others


def shipped() -> dict[str, pathlib.Path]:
  """The configs that come with jalign, by name: their files."""
  files = sorted(pathlib.Path(configs.__path__[0]).glob("*.py"))
  return {f.stem: f for f in files if "\ndef get_config(" in f.read_text()}


def _load(name: str) -> ConfigDict:
  file, _, argument = name.partition(":")
  if file in shipped():
    file = f"{configs.__name__}.{file}"
  elif not file.endswith(".py"):
    raise UserError(
      f"{file!r} is neither a config that jalign ships nor a FILE.py.",
      where="--config",
      remedy=nearest(file, shipped()),
    )
  function = load_function(f"{file}:get_config", "--config", {})
  given = (argument,) if argument else ()
  form = "(argument) -> ConfigDict" if given else _FORM
  return guarded(function, "--config", form, _checked, _keys)(*given)


def _checked(returned: Any, *_: Any) -> ConfigDict:
  if not isinstance(returned, ConfigDict):
    raise refuse(returned, "a ConfigDict", "--config")
  return ConfigDict(returned)  # a frozen one thaws


def _check_key(config: ConfigDict, key: str) -> None:
  section: Any = config
  for name in key.split(".")[1:]:
    keys = section.keys() if isinstance(section, ConfigDict) else ()
    if name not in keys:
      raise UserError(
        f"there is no {name!r} in this config.",
        where=key,
        remedy=nearest(name, keys),
      )
    section = section.get_oneway_ref(name).get()


def _keys() -> Iterator[str]:
  """The names of all keys and sections that a config may have."""
  from jalign.experiment.config.parse import defaults  # slow to import

  return _names(defaults())


def _names(section: Mapping[str, Any]) -> Iterator[str]:
  for name, value in section.items():
    yield name
    if isinstance(value, Mapping):
      yield from _names(value)
