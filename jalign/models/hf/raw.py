"""Checks the numbers of a config.json before anything computes with them."""

from typing import Any

from jalign.errors import UserError
from jalign.models.config_ranges import FIELDS, SCALING, SWITCHES
from jalign.models.hf.families import FAMILIES

_ROTATION = {**SCALING, "rope_theta": FIELDS["rope_theta"]}
# Keys that aren't fields of ModelConfig.
_TRAINED = "original_max_position_embeddings"
_LENGTHS = dict.fromkeys(
  ("max_position_embeddings", _TRAINED), SCALING[_TRAINED]
)


def check_numbers(config: Any, where: str) -> None:
  """Checks numbers and switches; `config_from` checks everything else.

  Args:
    config: content of the file.
    where: the file, for error messages.

  Raises:
    UserError: a value is out of its range, or isn't a number or a switch.
  """
  if not isinstance(config, dict):
    raise UserError("it isn't a JSON object.", where=where)
  name = config.get("model_type")
  family = FAMILIES.get(name) if isinstance(name, str) else None
  renamed = {} if family is None else family.renamed
  for field, allowed in {**FIELDS, **_LENGTHS}.items():
    key = renamed.get(field, field)
    _check_number(config.get(key), allowed, f"{where}: {key}")
  for key in SWITCHES:
    if not isinstance(config.get(key), bool | None):
      raise UserError(
        f"{config[key]!r:.60} must be true or false.", where=f"{where}: {key}"
      )
  for kind in ("rope_parameters", "rope_scaling"):
    given = config.get(kind) or {}
    # One rotation for all layers, or several rotations by kind of layer.
    for rotation in (given, *dict(given).values()):
      for key, value in rotation.items() if isinstance(rotation, dict) else ():
        if key in _ROTATION:
          _check_number(value, _ROTATION[key], f"{where}: {kind}.{key}")


def _check_number(value, allowed, where):
  if value is not None and not allowed.holds(value):
    raise UserError(f"{value!r:.60} {allowed}.", where=where)
