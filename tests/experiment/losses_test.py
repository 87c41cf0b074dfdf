"""Every loss that data can feed, trained by the command line in the world."""

import json

import numpy as np
import pytest

from jalign import cli, data, losses
from jalign.training.kinds import KINDS, unread
from jalign.training.metrics import read_jsonl

CONFIG = """
from jalign.configs import world


def get_config():
  c = world.get_config({loss!r})
  c.stages = ("align",)
  del c.warmup, c.sft
  c.start = ""
  c.data.path = c.data.path.split("[")[0] + "[:24]"
  c.data.eval_fraction = 0.2
  c.data.buckets = (72,)
  c.model.hidden_size = c.model.intermediate_size = 32
  c.annotator.function = c.annotator.measures = c.annotator.opponents = ""
  c.sample.best_of = 0
  c.sample.prompts = c.sample.eval_prompts = 2
  c.sample.max_new_tokens = 2
  c.steps = 10
  c.log_every = 1
  c.batch_size = {batch}
  c.optimizer.learning_rate = 3e-3
  c.optimizer.warmup_steps = 0
  c.judge = False
  return c
"""


def fed() -> list[str]:
  """Names of the losses that take only arrays that batches have."""
  table = {n: e.function for n, e in losses.CATALOGUE.items()} | losses.PRESETS
  usable = []
  for name in table:
    loss, entry = losses.resolve(name)
    kind, arrays = KINDS[entry.batch], losses.array_parameters(loss)
    if not kind.head and not unread(kind, arrays):
      usable.append(name)
  return usable


def test_most_losses_can_be_fed():
  assert len(fed()) > 50


LOSS = "train/loss"
# These hold a weight constant that the policy decides. So their value may rise
# while the weighted likelihood moves as it should.
FALLING = dict.fromkeys(
  ("a_lol", "a_lol_seq", "r_lol"), "train/nll_nats_per_token"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", fed())
def test_ten_steps_lower_the_loss(name, tmp_path):
  # One batch holds all data, so that steps are comparable.
  config = tmp_path / "config.py"
  function, _ = losses.resolve(name)
  scored = {"rewards", "values"} & set(losses.array_parameters(function))
  config.write_text(CONFIG.format(loss=name, batch=96 if scored else 24))
  run = tmp_path / "run"
  command = ["train", f"--config={config}", f"--workdir={run}"]
  if name == "unlikelihood_sequence":  # the world never repeats itself
    path = tmp_path / "repeats.jsonl"
    row = {"prompt": "again :", "response": " one two three four" * 3}
    path.write_text(
      "".join(
        json.dumps(row | {"prompt": f"again {i} :"}) + "\n" for i in range(24)
      )
    )
    command += [
      "--config.data.source=demonstrations",
      f"--config.data.path={path}",
    ]
  if losses.resolve(name)[1].batch == "distributions":
    context = tmp_path / "context.txt"
    post, summary = data.read("tldr_world", "sft[:1]")[0][0].prompt, " ."
    context.write_text(f"{post}{summary} ")
    command += [
      f"--config.data.context={context}",
      "--config.data.buckets=(136,)",
    ]
  cli.main(command)
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  values = [row[FALLING.get(name, LOSS)] for row in rows if LOSS in row]
  assert len(values) == 10 and np.isfinite(values).all()
  assert values[-1] < values[0]
