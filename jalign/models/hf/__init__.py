"""Hugging Face checkpoints in and out."""

from jalign.models.hf.families import FAMILIES, config_from, config_to
from jalign.models.hf.load import load, read_config
from jalign.models.hf.save import exported, save

__all__ = [
  "FAMILIES",
  "config_from",
  "config_to",
  "exported",
  "load",
  "read_config",
  "save",
]
