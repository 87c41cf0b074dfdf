"""Context distillation from a config: a file, a column, and what is refused."""

import json

import numpy as np
import pytest

from jalign.training.metrics import read_jsonl

FLAGS = (
  "--config.data.source=demonstrations",
  "--config.loss.name=context_distillation",
  "--config.judge=False",
  "--config.model.initializer_range=0.4",
  "--config.optimizer.learning_rate=0.01",
)


@pytest.fixture
def distilling(place):
  """A place with demonstrations, a context, and a stage of distillation."""
  place.align_alone()
  text = place.config.read_text()
  text = text.replace("c.loss.beta = 0.1", "c.loss = base.loss('sft')")
  text = text.replace("c.data.buckets = (32,)", "c.data.buckets = (64,)")
  place.config.write_text(text)
  place.write_data(
    {"prompt": f"q{i}:", "response": " a" * (1 + i % 3), "hint": "write a: "}
    for i in range(40)
  )
  return place


def test_a_stage_distils_a_context(distilling):
  context = distilling.folder / "context.txt"
  context.write_text("Write a and nothing else.\n")
  flags = (
    *FLAGS,
    "--config.steps=6",
    "--config.eval_every=2",
    "--config.packing=128",
  )
  run, said = distilling.train(*flags, f"--config.data.context={context}")
  assert "none of" in said and "demonstrations truncated" in said
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  kl = [r[k] for r in rows if (k := "train/context_kl_nats_per_token") in r]
  assert len(kl) == 6 and np.isfinite(kl).all() and kl[0] > 0
  held_out = [
    r[k] for r in rows if (k := "eval/context_kl_nats_per_token") in r
  ]
  assert held_out[-1] < held_out[0]  # the distance to the prompted teacher
  loss = [r["train/loss"] for r in rows if "train/loss" in r]
  np.testing.assert_allclose(loss, kl, rtol=1e-5)


def test_the_context_of_a_column(distilling):
  columns = "--config.data.columns=context=hint"
  top_k = "--config.loss.name=top_k_distillation"
  run, _ = distilling.train(*FLAGS, columns, top_k, "--config.steps=1")
  facts = json.loads((run / "data.json").read_text())
  assert facts["source"]["ignored"] == {}
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  assert next(r for r in rows if "train/loss" in r)["train/loss"] > 0


def test_what_is_refused(distilling):
  said = distilling.fails(distilling.command(*FLAGS))
  assert "distributions are needed, and the data has sequences" in said
  assert "set data.context to a text file" in said
  said = distilling.fails(
    distilling.command(*FLAGS, "--config.data.context=none.txt")
  )
  assert "config.data.context: the context can't be read" in said
  context = distilling.folder / "context.txt"
  context.write_text("".join(chr(33 + i * i % 89) for i in range(300)))
  said = distilling.fails(
    distilling.command(*FLAGS, f"--config.data.context={context}")
  )
  assert "and the longest bucket has 64" in said
  context.write_text("Write a.")
  given = f"--config.data.context={context}"
  said = distilling.fails(
    distilling.command(*FLAGS, given, "--config.reference=precompute")
  )
  assert "takes context_kl" in said and "reference='step'" in said
  said = distilling.fails(
    distilling.command(*FLAGS, given, "--config.loss.name=sft")
  )
  assert "sequences are needed, and the data has contexts" in said
