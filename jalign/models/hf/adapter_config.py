"""Reads an adapter_config.json.

A setting is either read, or has no effect on what an adapter computes, or has
to be off. Any other setting is an error that names the setting: as in
config.json, nothing unknown is ignored. Names and defaults are those of PEFT's
`LoraConfig`.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jalign.errors import UserError

CONFIG = "adapter_config.json"
# Upper bound on ranks and alphas: beside a change with a larger factor, float32
# keeps nothing of the weight.
_LARGEST = 1e9
_DEFAULTS = {"r": 8, "lora_alpha": 8}
_SWITCHES = ("use_rslora", "use_dora", "fan_in_fan_out", "inference_mode")
# Settings that aren't read: the tensors tell which modules are changed, and
# their shapes; how a change was initialised doesn't matter once it is trained,
# except as `_STARTS` says.
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
    "megatron_config",  # another library's layers, with the same products
    "megatron_core",
    "peft_version",
    "qalora_group_size",  # only used with use_qalora
    "revision",
    "runtime_config",
    "target_modules",
  )
)
_READ = frozenset(
  (
    "alpha_pattern",
    "bias",
    "init_lora_weights",
    "modules_to_save",
    "peft_type",
    "rank_pattern",
    "task_type",
  )
)
_CLASSIFIES = "SEQ_CLS"  # the task of adapters with a score's head
_HEADS = ("classifier", "score")  # that PEFT saves whole for this task
_MERGE = (
  "Merge it with PEFT: PeftModel.from_pretrained(BASE, ADAPTER)"
  ".merge_and_unload().save_pretrained(FOLDER)."
)
# Setting that changes the arithmetic in a way that isn't implemented here -> a
# remedy.
_REFUSED = {
  "alora_invocation_tokens": "Such an adapter acts only on some tokens, which"
  " no change of weights can do.",
  "arrow_config": "Such an adapter chooses between adapters for each token,"
  " which no change of weights can do.",
  "kasa_config": _MERGE,
  "layer_replication": _MERGE,
  "lora_bias": _MERGE,
  "monteclora_config": _MERGE,
  "target_parameters": _MERGE,
  "trainable_token_indices": _MERGE,
  "use_bdlora": _MERGE,
  "use_qalora": _MERGE,
  "velora_config": _MERGE,
}
# Values of init_lora_weights that leave the base unchanged; other
# initialisations change the base, too.
_STARTS = ("true", "false", "gaussian", "eva", "orthogonal", "mica")


class AdapterConfig(NamedTuple):
  """The settings of an adapter_config.json that are used.

  Attributes:
    rank: rank of modules whose names match no pattern of `ranks`.
    alpha: alpha of modules whose names match no pattern of `alphas`.
    ranks: pattern of modules' names -> rank.
    alphas: pattern of modules' names -> alpha.
    use_rslora: whether the factor is alpha / sqrt(rank), not alpha / rank.
    use_dora: whether the columns' lengths are trained too (DoRA).
    targets: names, or ends of names, of the changed modules, if all modules of
      these names are changed; () where only the tensors tell.
    scores: whether the adapter is a reward model's, with the score's head.
  """

  rank: int
  alpha: float
  ranks: Mapping[str, int]
  alphas: Mapping[str, float]
  use_rslora: bool
  use_dora: bool
  targets: tuple[str, ...]
  scores: bool = False

  def ranks_and_scales(
    self, modules: Iterable[str], where: str
  ) -> dict[str, tuple[int, float]]:
    """Module's name -> rank and factor, by the first pattern that matches.

    Args:
      modules: names of the modules.
      where: the file, for error messages.

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
  """Reads and checks the adapter_config.json of a folder.

  Raises:
    UserError: the file can't be read, isn't LoRA's, or has unknown settings.
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
      f"the adapter is of type {kind!r}, but only LORA can be read.",
      where=where,
      remedy=_MERGE,
    )
  given = {key: x for key, x in given.items() if x is not None}
  _refuse(given, where)
  return _checked(_DEFAULTS | given, where)


def _refuse(given, where):
  """Raises UserError for settings that ask for what jalign doesn't compute."""
  for key, remedy in _REFUSED.items():
    if given.get(key):
      raise UserError(
        f"it asks for {key}, which jalign doesn't compute.",
        where=where,
        remedy=remedy,
      )
  whole = given.get("modules_to_save", [])
  scores = given.get("task_type") == _CLASSIFIES
  if not isinstance(whole, list) or not {*map(str, whole)} <= (
    {*_HEADS} if scores else set()
  ):
    raise UserError(
      f"it holds whole modules (modules_to_save is {whole!r:.200}), and only"
      f" the heads of reward models (task_type {_CLASSIFIES}) can be read.",
      where=where,
      remedy=_MERGE,
    )
  bias = given.get("bias", "none")
  if bias != "none":
    raise UserError(
      f"it trains biases (bias={bias!r}).", where=where, remedy=_MERGE
    )
  start = given.get("init_lora_weights", True)
  if str(start).lower() not in _STARTS:
    raise UserError(
      f"init_lora_weights is {start!r}: such an adapter belongs to a base whose"
      " weights the initialisation changed, not to the published base.",
      where=where,
      remedy="Let PEFT write the adapter as plain LoRA:"
      " model.save_pretrained(FOLDER,"
      " path_initial_model_for_weight_conversion=START), where START is the"
      " adapter as saved before training. If that is done, or if your base is"
      " the changed one, set init_lora_weights to true in this file.",
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
      remedy="If that has no effect on what the adapter computes, remove it"
      f" from the file. {_MERGE}",
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
        f"{key} is {given[key]!r}, not an object of values by module.",
        where=where,
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
    scores=given.get("task_type") == _CLASSIFIES,
  )


def _named(key, pattern):
  return [(f"{key} of {name}", x) for name, x in pattern.items()]


def _firsts(values, modules, default, where) -> list[Any]:
  """For each module, the value of the first pattern that matches its name.

  Patterns are matched by RE2, because Python's engine may take years for a
  stranger's pattern.
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
        f"{pattern[:60]!r} isn't a regular expression that can be read here"
        f" ({str(error)[:100]}).",
        where=where,
        remedy="Write the pattern without look-around and without references to"
        " groups, or name the modules one by one.",
      ) from None
    for i, hit in enumerate(hits.to_pylist()):
      if hit and firsts[i] is None:
        firsts[i] = value
  return [default if x is None else x for x in firsts]
