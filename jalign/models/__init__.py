"""Models: records of pure functions over plain nested dicts of parameters."""

from jalign.models.adapters import from_apply, from_linen, from_nnx
from jalign.models.cached import KVCache
from jalign.models.config import ModelConfig
from jalign.models.heads import (
  HEADS,
  ScoreHead,
  general,
  last_hidden,
  objectives,
  pairwise,
  scalar,
  values,
)
from jalign.models.ideal_points import RATER_HEADS, fit_rater
from jalign.models.rater_heads import RaterHead
from jalign.models.spec import ParamSpec, init_params, param_specs, param_table
from jalign.models.transformer import transformer

__all__ = [
  "HEADS",
  "RATER_HEADS",
  "KVCache",
  "ModelConfig",
  "ParamSpec",
  "RaterHead",
  "ScoreHead",
  "fit_rater",
  "from_apply",
  "from_linen",
  "from_nnx",
  "general",
  "init_params",
  "last_hidden",
  "objectives",
  "pairwise",
  "param_specs",
  "param_table",
  "scalar",
  "transformer",
  "values",
]
