"""Every key with its default: what the other configs start from.

`jalign keys` tells what each key means.
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
  """The path of a small data file that comes with jalign.

  Args:
    name: of a file in `jalign.configs.data`, "demo_preferences.jsonl" say.
  """
  return str(pathlib.Path(__file__).parent.resolve() / "data" / name)


def loss(name: str) -> ConfigDict:
  """The section of a loss, with its default hyperparameters.

  Args:
    name: of the catalogue, or FILE.py:NAME for a function of your own;
      `jalign train` reports one that isn't there.
  """
  try:
    return ConfigDict(section_of(name))
  except UserError:
    return ConfigDict(dict(name=name))


# What an earlier stage doesn't take over from the last one.
_OWN = (
  "optimizer",
  "lora",
  "diagnostics",
  "trainable",
  "normalise_pairs",
  "algorithm",
  "steps",
  "select",
  "select_mode",
)


def stage(loss: dict[str, Any], **changes: Any) -> ConfigDict:
  """The section of an earlier stage: what differs from the top level.

  How the last stage is trained, its optimiser and its algorithm for example,
  isn't taken over: these keys have their defaults again.

  Args:
    loss: name and hyperparameters.
    **changes: other keys of a stage.
  """
  defaults = parse.defaults()
  own = {key: defaults[key] for key in _OWN}
  return ConfigDict(own | {"loss": loss, "data": {}} | changes)
