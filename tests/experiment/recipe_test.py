"""A report says how each stage was trained."""

import dataclasses

from jalign.experiment.config.settings import StageSettings
from jalign.experiment.recipe import parameters, recipe, recipes
from jalign.models import ModelConfig, param_specs
from jalign.models.lora import LoraConfig
from jalign.training.optimizer import OptimizerConfig

MODEL = ModelConfig(
  vocab_size=10,
  hidden_size=8,
  intermediate_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  num_key_value_heads=2,
)
SFT = StageSettings(name="sft", loss={"name": "sft"}, microbatches=4)
ONLINE = StageSettings(
  name="align",
  loss={"name": "dpo", "beta": 0.3},
  algorithm="online_dpo",
  lora=LoraConfig(rank=3, targets=("blocks/wq",)),
  optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=5),
)


class _Settings:
  """The part of a run's settings that a recipe reads."""

  starts = {"sft": "start", "align": "sft"}

  def __init__(self, init_from=""):
    self.init_from = init_from


def test_a_recipe_names_start_algorithm_and_trained_parameters():
  total = parameters(param_specs(MODEL))
  assert total == 10 * 8 + 8 + 2 * (4 * 8 * 8 + 3 * 8 * 16 + 2 * 8)
  first = recipe(_Settings(), SFT, MODEL, [{"step": 0}, {"step": 7}])
  assert first == {
    "starts from": "fresh parameters",
    "loss": "sft()",
    "steps": "7",
    "batch size": "32 in 4 parts",
    "learning rate": "0.001, cosine",
    "settings of the algorithm": "",
    "LoRA": "",
    "parameters that are trained": f"{total:,} of {total:,}",
  }
  assert recipe(_Settings("base"), SFT, MODEL, [])["starts from"] == "base"
  last = recipe(_Settings("base"), ONLINE, MODEL, [])
  assert last["starts from"] == "sft" and last["LoRA"] == "rank 3, alpha 16"
  assert last["loss"].startswith("online_dpo: dpo(beta=0.3")
  assert last["learning rate"] == "0.0001, cosine after 5 updates of warm-up"
  # Two layers' A [8, 3] and B [3, 8].
  trained = f"{2 * 2 * 24} beside {total:,} that stay"
  assert last["parameters that are trained"] == trained
  table = recipes({"sft": first, "align": last})
  assert table.header == ("", "sft", "align")
  assert ("LoRA", "", "rank 3, alpha 16") in table.rows
  many = recipes({"sft": first, **dict.fromkeys(map(str, range(9)), last)})
  assert many.header[1:3] == ("starts from", "loss")
  assert many.rows[0][:3] == ("sft", "fresh parameters", "sft()")
  assert "LoRA" not in [row[0] for row in recipes({"sft": first}).rows]


def test_a_recipe_counts_the_critic_and_names_the_settings():
  settings = {"samples": 2, "passes": 2, "whiten": True}
  stage = dataclasses.replace(
    SFT, algorithm="ppo", loss={"name": "ppo"}, algorithm_settings=settings
  )
  found = recipe(_Settings(), stage, MODEL, [])
  total = parameters(param_specs(MODEL))
  # The critic is another such model, with a head of 8 weights and a bias.
  trained = f"the policy's {total:,}, and {total + 9:,} of the critic"
  assert found["parameters that are trained"] == trained
  shown = "passes=2, samples=2, whiten=True"
  assert found["settings of the algorithm"] == shown
