"""Makes settings of a ConfigDict; a key that isn't a field is an error.

No later code sees a ConfigDict. The top level of a config describes the last
stage of a run, and a section with the name of an earlier stage overrides the
keys that differ there.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from jalign.errors import UserError, meant
from jalign.experiment.config import ranges
from jalign.experiment.config.settings import (
  AnnotatorSettings,
  DataSettings,
  DiagnosticsSettings,
  DrawingSettings,
  MeshSettings,
  SamplerSettings,
  Settings,
  StageSettings,
  TokenizerSettings,
  UnfinishedSettings,
)
from jalign.models import ModelConfig
from jalign.models.lora import LoraConfig
from jalign.training.critic import CriticConfig
from jalign.training.optimizer import OptimizerConfig

SEE = "`jalign keys` lists every key."  # the end of errors about keys
SECTIONS: dict[str, Any] = {
  "data": DataSettings,
  "tokenizer": TokenizerSettings,
  "sample": SamplerSettings,
  "annotator": AnnotatorSettings,
  "mesh": MeshSettings,
}
OF_STAGE: dict[str, Any] = {
  "optimizer": OptimizerConfig,
  "critic": CriticConfig,
  "drawing": DrawingSettings,
  "unfinished": UnfinishedSettings,
  "lora": LoraConfig,
  "diagnostics": DiagnosticsSettings,
}
_PLAIN = ("title", "init_from", "wandb_project", "report", "resume")
_STAGE = tuple(
  f.name for f in dataclasses.fields(StageSettings) if f.name != "name"
)
FOLDERS = (
  "plots",
  "tokenizer",
  "lock",
  "dynamics",
)  # of a run, beside its stages
OF_ONE = {"start": "", "judge": True}  # never inherited from the top level
MODEL = tuple(
  f.name
  for f in dataclasses.fields(ModelConfig)
  if f.name not in ("vocab_size", "rules")
)


def defaults() -> dict[str, Any]:
  """Returns every key of a config of one stage, with its default."""
  stage = dataclasses.asdict(StageSettings(name="", loss={"name": "dpo"}))
  del stage["name"], stage["data"]
  required = {"vocab_size", "rules"}
  model = {
    f.name: 0 if f.default is dataclasses.MISSING else f.default
    for f in dataclasses.fields(ModelConfig)
    if f.name not in required
  }
  sections = {name: dataclasses.asdict(cls()) for name, cls in SECTIONS.items()}
  sections["data"]["columns"] = {}
  return {
    "seed": 0,
    "seeds": (),
    "sweep": (),
    "stages": ("train",),
    **dict.fromkeys(_PLAIN, ""),
    **sections,
    "model": model,
    **stage,
  }


def parse(config: Mapping[str, Any]) -> Settings:
  """Reads the config of a run.

  Raises:
    UserError: a key is unknown, or its value has the wrong type or is out of
      range; the error names the key.
  """
  config = dict(config)
  main_data = _dict(config.get("data", {}), "config.data")
  sections = {
    name: _section(cls, config.pop(name, {}), f"config.{name}")
    for name, cls in SECTIONS.items()
  }
  ranges.check_data(sections["data"], "config.data")
  ranges.check_sample(sections["sample"])
  if sections["tokenizer"].kind not in ("bpe", "words"):
    raise UserError(
      f"{sections['tokenizer'].kind!r} is not 'bpe' or 'words'.",
      where="config.tokenizer.kind",
    )
  model = _typed(ModelConfig, config.pop("model", {}), "config.model", MODEL)
  seed = _convert(config.pop("seed", 0), int, "config.seed")
  if not 0 <= seed < 2**63:
    raise UserError(f"{seed} is not in [0, 2^63).", where="config.seed")
  texts = {
    name: _convert(config.pop(name, ""), str, f"config.{name}")
    for name in _PLAIN
  }
  if texts["resume"] not in ("", "anyway"):
    raise UserError(
      f"{texts['resume']!r} is not 'anyway' or ''.", where="config.resume"
    )
  names = _convert(
    config.pop("stages", ("train",)), tuple[str, ...], "config.stages"
  )
  top = {name: config.pop(name) for name in _STAGE if name in config}
  known = (
    "start",
    *SECTIONS,
    "model",
    "seed",
    "seeds",
    "sweep",
    "stages",
    *_PLAIN,
  )
  known = (*known, *_STAGE)
  if not names or len(set(names)) < len(names) or set(names) & set(known):
    raise UserError(
      f"{', '.join(names) or 'nothing'}: must be one or more different names,"
      " none of them a key.",
      where="config.stages",
    )
  for name in names:
    if not re.fullmatch(r"[A-Za-z]\w*", name) or name in FOLDERS:
      raise UserError(
        f"{name!r} can't name a stage: it is the name of its folder.",
        where="config.stages",
        remedy=f"Use letters, digits and _, and none of {', '.join(FOLDERS)}.",
      )
  top["data"] = main_data
  stages: list[StageSettings] = []
  for name in names:
    own = _dict(config.pop(name, {}), f"config.{name}")
    _refuse_unknown(own, _STAGE, f"config.{name}")
    inherited = top if name == names[-1] else top | OF_ONE
    stage = _stage(name, inherited, own, f"config.{name}")
    earlier = ["start", *(s.name for s in stages)]
    if stage.start and stage.start not in earlier:
      raise UserError(
        f"{stage.start!r} is not a stage before this one.",
        where=f"config.{name}.start",
        remedy=f"There are: {', '.join(earlier)}.",
      )
    stages.append(stage)
  _refuse_unknown(config, known, "config")
  return Settings(
    seed=seed, model=model, stages=tuple(stages), **texts, **sections
  )


def _stage(name, top, own, where) -> StageSettings:
  merged = top | own
  for key, cls in OF_STAGE.items():
    at = f"{where}.{key}"
    section = _dict(top.get(key, {}), at) | _dict(own.get(key, {}), at)
    merged[key] = _section(cls, section, at)
  for key in (
    "loss",
    "head",
    "algorithm_settings",
  ):  # replaced as a whole, not merged
    merged[key] = plain(merged.get(key, {}))
  if merged.get("algorithm", "") != top.get("algorithm", ""):
    merged["algorithm_settings"] = plain(
      own.get("algorithm_settings", {})
    )  # the inherited settings are another algorithm's
  data = _dict(own.get("data", {}), f"{where}.data")
  if "path" in data:  # the run's held-out file and columns don't fit this path
    data = {"eval_path": "", "judge_columns": ()} | data
  data = top["data"] | data
  merged["data"] = _section(DataSettings, data, f"{where}.data")
  ranges.check_data(merged["data"], f"{where}.data")
  stage = _section(StageSettings, merged | {"name": name}, where)
  if stage.algorithm_settings and not stage.algorithm:
    raise UserError(
      f"{', '.join(stage.algorithm_settings)}: hyperparameters of an"
      " algorithm, and the stage has none.",
      where=f"{where}.algorithm_settings",
      remedy=f"Set {where}.algorithm, or leave them out.",
    )
  for key, allowed in (
    ("reference", ("step", "precompute")),
    ("select_mode", ("min", "max")),
  ):
    if getattr(stage, key) not in allowed:
      listed = ", ".join(map(repr, allowed))
      raise UserError(
        f"{getattr(stage, key)!r} is not one of {listed}.",
        where=f"{where}.{key}",
      )
  ranges.check_diagnostics(stage.diagnostics, f"{where}.diagnostics")
  ranges.check_counts(stage, where)
  ranges.check_drawing(stage.drawing, where)
  if 0 < stage.packing < max(stage.data.buckets):
    raise UserError(
      f"rows of {stage.packing} tokens can't hold a sequence of"
      f" {max(stage.data.buckets)}, the longest bucket.",
      where=f"{where}.packing",
      remedy="Give that many or more, or 0 for no packing.",
    )
  if not 0 <= stage.mix_ref <= 1:
    raise UserError(
      f"{stage.mix_ref} is outside [0, 1].", where=f"{where}.mix_ref"
    )
  if stage.steps < 1 and stage.epochs < 1:
    raise UserError("asks for no step.", where=f"{where}.steps")
  return stage


def _refuse_unknown(section, known, where):
  for key in section:
    if key not in known:
      raise UserError(
        "is not a key here.",
        where=f"{where}.{key}",
        remedy=f"{meant(key, known)}{SEE}",
      )


def _section(cls, values, where):
  """Builds a dataclass from a mapping, with types checked."""
  typed = _typed(cls, values, where)
  try:
    return cls(**typed)
  except UserError as e:  # its place, if there is one, is SECTION.KEY
    _, dot, key = e.where.rpartition(".")
    at = f"{where}{dot}{key}"
    raise UserError(e.problem, where=at, remedy=e.remedy) from e


def _typed(cls, values, where, known=None):
  """Converts the values of a mapping to the types of a dataclass's fields."""
  values, hints = _dict(values, where), typing.get_type_hints(cls)
  _refuse_unknown(values, tuple(hints) if known is None else known, where)
  return {
    key: _convert(value, hints[key], f"{where}.{key}")
    for key, value in values.items()
  }


def _dict(value, where):
  if not isinstance(value, Mapping):
    raise UserError(f"{value!r} is not a section of keys.", where=where)
  return dict(value)


def _convert(value, hint, where):
  origin = typing.get_origin(hint) or hint
  if origin is Any:  # the code that uses the value checks it
    return value
  if origin is tuple:
    if isinstance(value, Mapping):
      value = tuple(value.items())
    if isinstance(value, (tuple, list)):
      inner = typing.get_args(hint)[0]
      return tuple(_convert(v, inner, where) for v in value)
  elif origin is float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
      if not abs(value) < math.inf:
        raise UserError(f"{value} is not a finite number.", where=where)
      return float(value)
  elif origin is int:
    if isinstance(value, int) and not isinstance(value, bool):
      return value
  elif isinstance(origin, type) and isinstance(value, origin):
    if isinstance(value, str) and "\0" in value:
      raise UserError("contains the character NUL.", where=where)
    return plain(value)
  expected = getattr(hint, "__name__", str(hint))
  if isinstance(hint, types.GenericAlias):
    expected = str(hint)
  raise UserError(f"{value!r} is not of type {expected}.", where=where)


def plain(value: Any) -> Any:
  """Makes nested dicts of nested mappings."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  return value
