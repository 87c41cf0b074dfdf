"""Every key there is, with its default; the other configs start from it.

What a key means stands in jalign/experiment/settings.py, once.
"""

from typing import Any

from ml_collections import ConfigDict

from jalign.experiment import parse


def get_config() -> ConfigDict:
  """Returns a config of one stage with every default."""
  return ConfigDict(parse.defaults())


def stage(loss: dict[str, Any], **changes: Any) -> ConfigDict:
  """The section of an earlier stage: what differs from the top level.

  Args:
    loss: name and hyperparameters.
    **changes: other keys of a stage.
  """
  section = ConfigDict(changes)
  section.loss = ConfigDict(loss)
  section.optimizer = ConfigDict(parse.defaults()["optimizer"])
  section.algorithm = changes.get("algorithm", "")
  section.steps = changes.get("steps", 0)
  section.select = changes.get("select", "")
  return section
