"""Reads and writes Hugging Face checkpoints and PEFT adapters."""

from jalign.models.hf.adapter import load_adapter, save_adapter
from jalign.models.hf.adapter_config import read_adapter_config
from jalign.models.hf.checkpoint_folder import appearing, resolve
from jalign.models.hf.description import HOW, config_from, config_to
from jalign.models.hf.families import FAMILIES
from jalign.models.hf.head_file import StoredHead
from jalign.models.hf.load import load, read_config
from jalign.models.hf.reward_adapter import load_reward_adapter
from jalign.models.hf.reward_model import (
  RewardModel,
  load_reward_model,
  read_reward_head,
  save_reward_model,
  unpadded,
)
from jalign.models.hf.save import TOKENIZER_FILES, exported, save
from jalign.models.hf.shards import open_shards

__all__ = [
  "FAMILIES",
  "HOW",
  "TOKENIZER_FILES",
  "RewardModel",
  "StoredHead",
  "appearing",
  "config_from",
  "config_to",
  "exported",
  "load",
  "load_adapter",
  "load_reward_adapter",
  "load_reward_model",
  "open_shards",
  "read_adapter_config",
  "read_config",
  "read_reward_head",
  "resolve",
  "save",
  "save_adapter",
  "save_reward_model",
  "unpadded",
]
