"""Loads configs by name or by file, so that errors name the config's lines."""

import ast
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jalign import configs
from jalign.errors import UserError, meant, said

if TYPE_CHECKING:  # slow to import
  from ml_collections import ConfigDict

_FORM = "() -> ConfigDict; --config=NAME:ARGUMENT gives it one argument"


def shipped() -> dict[str, str]:
  """Maps names of shipped configs to the first lines of their docstrings."""
  named = {}
  for file in sorted(pathlib.Path(configs.__path__[0]).glob("*.py")):
    tree = ast.parse(file.read_text())
    functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    if "get_config" in functions:
      named[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
  return named


def read_config(name: str, keys: Sequence[tuple[str, str]]) -> dict[str, Any]:
  """Reads a config and sets its keys; returns plain dictionaries.

  Args:
    name: of a shipped config or of a file, "dpo" or "FILE.py"; an argument for
      its get_config may follow, "dpo:ipo".
    keys: (dotted key, text of its value) of each key to set.

  Raises:
    UserError: there is no such config, the file can't be run, its get_config
      raises or returns something other than a ConfigDict, or a key can't be
      set (see `override`).
  """
  config = _load(name)

  from jalign.experiment.config.overrides import override

  with config.unlocked(), config.ignore_type():
    override(config, keys)
  try:
    return config.to_dict()
  except Exception as e:  # for example a reference to a field without a value
    raise UserError(f"can't be read ({said(e)}).", where="--config") from e


def _load(name: str) -> "ConfigDict":
  file, argument = _divided(name)
  if file in shipped():
    module = f"{configs.__name__}.{file}"
  elif file.endswith(".py"):
    module = file
    if not pathlib.Path(file).is_file():
      raise UserError(
        f"there is no file {file!r}.",
        where="--config",
        remedy=_suggested(pathlib.Path(file).stem),
      )
  else:
    raise UserError(
      f"jalign ships no config {file!r}.",
      where="--config",
      remedy=f"{_suggested(file)} A config of your own is a FILE.py.",
    )

  from jalign.experiment.config.functions import guarded, load_function

  function = load_function(f"{module}:get_config", "--config", {})
  given = (argument,) if argument else ()
  form = "(argument) -> ConfigDict" if given else _FORM
  try:
    return guarded(function, "--config", form, _checked, _keys)(*given)
  except UserError as e:
    cause = e.__cause__
    if not isinstance(cause, UserError):
      raise
    # A function that the config called refused its arguments: its own text.
    at = cause.where or e.where
    raise UserError(cause.problem, where=at, remedy=cause.remedy) from None


def _divided(name: str) -> tuple[str, str]:
  """Splits "dpo:ipo" or "/folder/file.py:ipo" into (name or file, argument)."""
  first, _, others = name.partition(":")
  if first in shipped() or ".py" not in name:
    return first, others
  file, mark, argument = name.partition(".py:")
  return (f"{file}.py", argument) if mark else (name, "")


def _suggested(name: str) -> str:
  """Says which config may have been meant, and which are shipped."""
  names = shipped()
  return f"{meant(name, names)}Shipped are {', '.join(names)}."


def _checked(returned: Any, *_: Any) -> "ConfigDict":
  from ml_collections import ConfigDict

  from jalign.feedback.values import refuse

  if not isinstance(returned, ConfigDict):
    raise refuse(returned, "a ConfigDict", "--config")
  return ConfigDict(returned)  # a frozen one thaws


def _keys() -> Iterator[str]:
  """Yields the names of all keys and sections that a config may have."""
  from jalign.experiment.config.parse import defaults

  return _names(defaults())


def _names(section: Mapping[str, Any]) -> Iterator[str]:
  for name, value in section.items():
    yield name
    if isinstance(value, Mapping):
      yield from _names(value)
