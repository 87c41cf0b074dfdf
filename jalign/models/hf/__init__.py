"""Hugging Face checkpoints in and out."""

from jalign.models.hf.families import FAMILIES, HOW, config_from, config_to
from jalign.models.hf.load import load, read_config
from jalign.models.hf.save import exported, save
from jalign.models.hf.shards import open_shards

__all__ = [
  "FAMILIES",
  "HOW",
  "config_from",
  "config_to",
  "exported",
  "load",
  "open_shards",
  "read_config",
  "save",
]
