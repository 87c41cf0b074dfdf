"""Every key there is, with its default; the other configs start from it.

What a key means stands in jalign/experiment/config/settings.py, once.
"""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from jalign import losses
from jalign.experiment.config import parse


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
    name: in the catalogue; an unknown one is reported by `jalign train`.
  """
  section = ConfigDict(dict(name=name))
  known = {n: e.function for n, e in losses.CATALOGUE.items()} | losses.PRESETS
  if name in known:
    section.update(losses.hyperparameters(known[name]))
  return section


def stage(loss: dict[str, Any], **changes: Any) -> ConfigDict:
  """The section of an earlier stage: what differs from the top level.

  Args:
    loss: name and hyperparameters.
    **changes: other keys of a stage.
  """
  section = ConfigDict(changes)
  section.loss = ConfigDict(loss)
  section.optimizer = ConfigDict(parse.defaults()["optimizer"])
  section.lora = ConfigDict(parse.defaults()["lora"])
  section.diagnostics = ConfigDict(parse.defaults()["diagnostics"])
  section.trainable = changes.get("trainable", ())
  section.normalise_pairs = changes.get("normalise_pairs", False)
  section.algorithm = changes.get("algorithm", "")
  section.steps = changes.get("steps", 0)
  section.data = ConfigDict()
  section.start = changes.get("start", "")
  section.judge = changes.get("judge", True)
  section.select = changes.get("select", "")
  section.select_mode = changes.get("select_mode", "min")
  return section
