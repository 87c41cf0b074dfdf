"""Every key with its default: where other configs start.

`jalign keys` says what the keys mean.
"""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from jalign.errors import UserError
from jalign.experiment.config import parse
from jalign.experiment.config.loss_section import section_of


def get_config() -> ConfigDict:
  """Returns a config of one stage with every default."""
  return ConfigDict(parse.defaults())


def bundled(name: str) -> str:
  """Returns the path of a small data file that comes with jalign.

  Args:
    name: a file in `jalign.configs.data`, such as "demo_preferences.jsonl".
  """
  return str(pathlib.Path(__file__).parent.resolve() / "data" / name)


def loss(name: str) -> ConfigDict:
  """Returns the section of a loss, with its default hyperparameters.

  Args:
    name: a name in the catalogue, or FILE.py:NAME for a function of your own;
      `jalign train` reports a name that doesn't exist.
  """
  try:
    return ConfigDict(section_of(name))
  except UserError:
    return ConfigDict(dict(name=name))


# Keys that an earlier stage doesn't inherit from the last stage.
_OWN = (
  "optimizer",
  "critic",
  "drawing",
  "lora",
  "diagnostics",
  "trainable",
  "head",
  "normalise_pairs",
  "algorithm",
  "steps",
  "select",
  "select_mode",
)


def stage(loss: dict[str, Any], **changes: Any) -> ConfigDict:
  """Returns the section of an earlier stage, for keys that differ there.

  The stage doesn't inherit how the last stage is trained, its optimiser and its
  algorithm for example: these keys have their defaults again.

  Args:
    loss: name and hyperparameters of the loss.
    **changes: other keys of a stage.
  """
  defaults = parse.defaults()
  own = {key: defaults[key] for key in _OWN}
  return ConfigDict(own | {"loss": loss, "data": {}} | changes)
