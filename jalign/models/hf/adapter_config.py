"""What an adapter_config.json says.

A setting is read, or has no part in what an adapter computes, or must be off.
Any other is an error that names it: as in config.json, what isn't understood
isn't ignored. Names and defaults are those of PEFT's `LoraConfig`.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jalign.errors import UserError

CONFIG = "adapter_config.json"
_LARGEST = 1e9  # of a factor: above, float32 holds nothing of a weight
_DEFAULTS = {"r": 8, "lora_alpha": 8}
_SWITCHES = ("use_rslora", "use_dora", "fan_in_fan_out", "inference_mode")
# Which modules there are, and their shapes, is what the tensors say; how they
# began doesn't matter once they are trained, but see `_STARTS`.
_SILENT = frozenset(
  (
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",  # layers of another library with the same products
    "megatron_core",
    "peft_version",
    "qalora_group_size",  # with use_qalora alone
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
  )
)
_READ = frozenset(
  ("alpha_pattern", "bias", "init_lora_weights", "peft_type", "rank_pattern")
)
_MERGE = (
  "Merge it with PEFT: PeftModel.from_pretrained(BASE, ADAPTER)"
  ".merge_and_unload().save_pretrained(FOLDER)."
)
# What changes the arithmetic, and isn't computed here -> what to do.
_REFUSED = {
  "alora_invocation_tokens": "It acts on some tokens alone: no weights do"
  " what it does.",
  "arrow_config": "It chooses between adapters by the token: no weights do"
  " what it does.",
  "kasa_config": _MERGE,
  "layer_replication": _MERGE,
  "lora_bias": _MERGE,
  "modules_to_save": _MERGE,
  "monteclora_config": _MERGE,
  "target_parameters": _MERGE,
  "trainable_token_indices": _MERGE,
  "use_bdlora": _MERGE,
  "use_qalora": _MERGE,
  "velora_config": _MERGE,
}
# Starts of adapters that leave the base as it was; others change it, too.
_STARTS = ("true", "false", "gaussian", "eva", "orthogonal", "mica")


class AdapterConfig(NamedTuple):
  """What is read of an adapter_config.json.

  Attributes:
    rank: where no pattern says another.
    alpha: the same.
    ranks: pattern of modules' names -> rank.
    alphas: the same of alpha.
    use_rslora: the factor is alpha / sqrt(rank).
    use_dora: columns have lengths.
    targets: names, or ends of names, of the modules that change, where all
      such modules do; () for what only tensors say.
  """

  rank: int
  alpha: float
  ranks: Mapping[str, int]
  alphas: Mapping[str, float]
  use_rslora: bool
  use_dora: bool
  targets: tuple[str, ...]

  def ranks_and_scales(
    self, modules: Iterable[str], where: str
  ) -> dict[str, tuple[int, float]]:
    """Rank and factor of modules: the first pattern that matches a name wins.

    Args:
      modules: their names.
      where: of error messages: the file.

    Raises:
      UserError: a pattern can't be read.
    """
    modules = list(modules)
    ranks = _firsts(self.ranks, modules, self.rank, f"{where}: rank_pattern")
    alphas = _firsts(
      self.alphas, modules, self.alpha, f"{where}: alpha_pattern"
    )
    grow = math.sqrt if self.use_rslora else float
    return {
      name: (rank, alpha / grow(rank))
      for name, rank, alpha in zip(modules, ranks, alphas)
    }


def read_adapter_config(folder: pathlib.Path) -> AdapterConfig:
  """adapter_config.json of a folder, checked.

  Raises:
    UserError: it can't be read, isn't LoRA, or asks for what isn't known.
  """
  where = str(folder / CONFIG)
  try:
    given = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    kind = given["peft_type"]
    given = dict(given)
  except (
    OSError, ValueError, KeyError, TypeError, RecursionError
  ) as error:  # fmt: skip
    raise UserError(
      f"it can't be read ({type(error).__name__}: {error}).",
      where=where,
      remedy="Give the folder of an adapter that PEFT saved.",
    ) from None
  if kind != "LORA":
    raise UserError(
      f"it is of the type {kind!r}; LORA alone is known.",
      where=where,
      remedy=_MERGE,
    )
  given = {key: x for key, x in given.items() if x is not None}
  _refuse(given, where)
  return _checked(_DEFAULTS | given, where)


def _refuse(given, where):
  """What isn't computed here."""
  for key, remedy in _REFUSED.items():
    if given.get(key):
      raise UserError(
        f"it asks for {key}, which jalign doesn't compute.",
        where=where,
        remedy=remedy,
      )
  bias = given.get("bias", "none")
  if bias != "none":
    raise UserError(
      f"it trains biases (bias={bias!r}).", where=where, remedy=_MERGE
    )
  start = given.get("init_lora_weights", True)
  if str(start).lower() not in _STARTS:
    raise UserError(
      f"init_lora_weights is {start!r}: such an adapter belongs to a base that"
      " its start changed, not to the one that was published.",
      where=where,
      remedy="Let PEFT write it as plain LoRA: model.save_pretrained(FOLDER,"
      " path_initial_model_for_weight_conversion=START), START being the"
      " adapter as saved before training. If that is done, or the base is the"
      " changed one, set init_lora_weights to true in this file.",
    )
  known = _SILENT | _READ | _REFUSED.keys() | _DEFAULTS.keys() | set(_SWITCHES)
  unknown = sorted(
    key
    for key, x in given.items()
    if key not in known and x is not False and x not in ({}, [])
  )
  if unknown:
    raise UserError(
      f"it asks for {', '.join(unknown)}, which jalign doesn't know.",
      where=where,
      remedy="If that changes nothing that is computed, take it out of the"
      f" file. {_MERGE}",
    )


def _checked(given, where) -> AdapterConfig:
  for key in _SWITCHES:
    if not isinstance(given.get(key, False), bool):
      raise UserError(
        f"{key} is {given[key]!r}, not true or false.", where=where
      )
  for key in ("rank_pattern", "alpha_pattern"):
    if not isinstance(given.get(key, {}), dict):
      raise UserError(
        f"{key} is {given[key]!r}, not values by modules.", where=where
      )
  ranks, alphas = given.get("rank_pattern", {}), given.get("alpha_pattern", {})
  for key, x in (("r", given["r"]), *_named("rank_pattern", ranks)):
    if type(x) is not int or not 1 <= x <= _LARGEST:
      raise UserError(
        f"{key} is {x!r}, not a whole number of at least 1.", where=where
      )
  named = _named("alpha_pattern", alphas)
  for key, x in (("lora_alpha", given["lora_alpha"]), *named):
    if type(x) not in (int, float) or not 0 < x <= _LARGEST:
      raise UserError(
        f"{key} is {x!r}, not a positive number up to {_LARGEST:g}.",
        where=where,
      )
  targets = given.get("target_modules")
  some = given.get("exclude_modules") or "layers_to_transform" in given
  whole = isinstance(targets, list) and not some
  return AdapterConfig(
    rank=given["r"],
    alpha=float(given["lora_alpha"]),
    ranks=ranks,
    alphas=alphas,
    use_rslora=given.get("use_rslora", False),
    use_dora=given.get("use_dora", False),
    targets=tuple(map(str, targets)) if whole else (),
  )


def _named(key, pattern):
  return [(f"{key} of {name}", x) for name, x in pattern.items()]


def _firsts(values, modules, default, where) -> list[Any]:
  """The value of the first pattern that matches each module.

  RE2 matches, as Python's engine may take years for a pattern of a stranger.
  """
  import pyarrow as pa  # slow to import
  import pyarrow.compute as pc

  firsts: list[Any] = [None] * len(modules)
  names = pa.array(modules, pa.string())
  for pattern, value in values.items():
    try:
      hits = pc.match_substring_regex(names, rf"^(.*\.)?({pattern})$")
    except pa.ArrowInvalid as error:
      raise UserError(
        f"{pattern[:60]!r} is no regular expression that is read here"
        f" ({str(error)[:100]}).",
        where=where,
        remedy="Write it without looking around and without references to"
        " groups, or name the modules one by one.",
      ) from None
    for i, hit in enumerate(hits.to_pylist()):
      if hit and firsts[i] is None:
        firsts[i] = value
  return [default if x is None else x for x in firsts]
