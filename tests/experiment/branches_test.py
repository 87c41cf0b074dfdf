"""Stages that branch, have their own data, and are judged together."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from jalign.experiment import params as start_params
from jalign.experiment.config.parse import parse
from jalign.experiment.data.prepare import prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training.metrics import read_jsonl
from tests.experiment import conftest

CONFIG = """
from jalign.configs import base


def get_config():
  c = base.get_config()
  c.stages = ("warmup", "sft", "dpo", "online")
  c.data.source = "tldr_world"
  c.data.path = "preferences[:60]"
  c.data.eval_fraction = 0.3
  c.data.max_prompt_tokens = 48
  c.data.max_response_tokens = 24
  c.data.buckets = (72,)
  c.tokenizer.kind = "words"
  c.model.hidden_size = 16
  c.model.intermediate_size = 16
  c.model.num_hidden_layers = 1
  c.model.num_attention_heads = 2
  c.model.num_key_value_heads = 2
  c.batch_size = 8
  c.warmup = base.stage(dict(name="sft"), steps=2, judge=False)
  c.warmup.data.path = "echo[:40]"
  c.sft = base.stage(dict(name="sft"), steps=2)
  c.sft.data.path = "sft[:60]"
  c.dpo = base.stage(dict(name="dpo", beta=0.1), steps=2, start="sft")
  c.start = "sft"
  c.algorithm = "online_ipo"
  c.loss = dict(tau=0.1)
  c.steps = 2
  c.annotator.function = "jalign.data.tldr_world:population"
  c.annotator.kind = "batch"
  c.annotator.measures = "jalign.data.tldr_world:measures"
  c.annotator.opponents = "jalign.data.tldr_world:archetypes"
  c.report = "jalign.configs.tldr_report:sections"
  c.sample.prompts = 8
  c.sample.eval_prompts = 4
  c.sample.best_of = 2
  c.max_new_tokens = c.sample.max_new_tokens = 8
  return c
"""


@pytest.fixture
def branching(place):
  place.config.write_text(CONFIG)
  return place


def test_branches_start_from_one_policy_and_meet_in_one_matrix(branching):
  folder, said = branching.train()
  for stage in ("dpo", "online"):
    results = json.loads((folder / stage / "results.json").read_text())
    assert results["against"] == "sft"
    # Each began at the SFT policy, so log-ratios and divergences start at 0.
    first = read_jsonl(folder / stage / "metrics.jsonl")[0]
    assert first["step"] == 0
    if stage == "dpo":
      np.testing.assert_allclose(first["eval/loss"], np.log(2), rtol=1e-5)
    else:
      np.testing.assert_allclose(first["samples/kl_k1_nats"], 0, atol=1e-5)
    assert {"measures/gold reward", "measures/grammatical %"} <= set(results)
  warmup = json.loads((folder / "warmup" / "results.json").read_text())
  assert warmup["step"] == 2 and "eval/loss" in warmup["evaluation"]
  page = (folder / "report.html").read_text()
  for name in ("sft", "dpo", "online", "best of 2", "complete sourced"):
    assert name in page
  assert "no response more than" in page and "warmup] held out" not in said
  matrix = json.loads((folder / "win_matrix.json").read_text())
  names = matrix["names"]
  assert names[:4] == ["sft", "dpo", "online", "best of 2"]
  at = lambda a, b: matrix["win_rate"][names.index(a)][names.index(b)]
  dpo = json.loads((folder / "dpo" / "results.json").read_text())
  assert at("dpo", "sft") == pytest.approx(
    dpo["samples/win_rate"]["mean"], abs=1e-6
  )
  assert at("complete plain", "complete sourced") == pytest.approx(0.65)
  facts = json.loads((folder / "data.json").read_text())
  assert facts["source"]["path"] == "tldr_world/preferences"
  assert facts["stages"]["warmup"]["source"]["path"] == "tldr_world/echo"

  params = lambda stage: jax.device_get(
    trained_params(folders.model_of(folder), make_mesh(), folder / stage)
  )
  sft, dpo, online = params("sft"), params("dpo"), params("online")
  moved = lambda a, b: max(
    float(np.abs(x - y).max())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
  )
  assert 0 < moved(sft, dpo) < 0.1 and 0 < moved(sft, online) < 0.1
  branching.train()  # there is nothing left to do
  jax.tree.map(np.testing.assert_array_equal, online, params("online"))


@pytest.mark.parametrize(
  "old, new, said",
  [
    ('start="sft"', 'start="nope"', "config.dpo.start: 'nope' is not a stage"),
    ('c.start = "sft"', 'c.start = "online"', "config.start: 'online' is not"),
    (
      '"sft[:60]"',
      '"ranked[:60]"',
      "config.sft.data.convert.*no rewards.*best_demonstrations",
    ),
    (
      '"sft[:60]"',
      '"prompts[:60]"',
      "sequences are needed, and the data has prom",
    ),
    (
      "c.dpo = base.stage",
      'c.sft.data.convert = "best_and_worst"\n  c.dpo = base.stage',
      "config.sft.data.convert.*doesn't take Demonstration",
    ),
    ('"batch"', '"many"', "config.annotator.kind: 'many' is no kind of judge"),
    (":measures", ":nothing", "config.annotator.measures.*can't be loaded"),
    ('kind = "words"', 'kind = "letters"', "config.tokenizer.kind"),
    ("best_of = 2", "best_of = -1", "config.sample.best_of"),
    (":sections", ":nothing", "config.report.*can't be loaded"),
    ('c.stages = ("warmup",', 'c.stages = ("start",', "config.stages"),
  ],
)
def test_a_bad_branch_names_its_key(branching, old, new, said):
  text = branching.config.read_text()
  assert old in text
  branching.config.write_text(text.replace(old, new))
  message = branching.fails(branching.command())
  assert re.search(said, message), message
  assert not (branching.folder / "run").exists()


def test_ranked_lists_become_pairs(branching):
  text = branching.config.read_text().replace(
    '"preferences[:60]"', '"ranked[:60]"\n  c.data.convert = "best_and_worst"'
  )
  lines = [x for x in text.splitlines() if "c.warmup" not in x]
  text = "\n".join(x for x in lines if "c.sft" not in x and "c.dpo" not in x)
  text = text.replace('("warmup", "sft", "dpo", "online")', '("dpo",)')
  text = text.replace('c.start = "sft"', "pass")
  text = text.replace('c.algorithm = "online_ipo"', "pass")
  text = text.replace("dict(tau=0.1)", 'dict(name="dpo", beta=0.1)')
  branching.config.write_text(text)
  folder, said = branching.train("--config.report=")
  assert re.search(r"read 60 records, used 60\n.*read 60 pairs, used \d+", said)
  results = json.loads((folder / "dpo" / "results.json").read_text())
  assert results["against"] == "start" and "eval/reward_accuracy" in results


def test_no_stage_is_trained_on_prompts_that_the_run_holds_out(branching):
  text = branching.config.read_text().replace(
    'c.sft.data.path = "sft[:60]"',
    'c.sft.data.path = "sft[:200]"\n  c.sft.data.eval_fraction = 0.05',
  )
  branching.config.write_text(text)
  namespace = {}
  exec(text, namespace)
  prepared = prepare(
    parse(namespace["get_config"]().to_dict()), branching.folder / "no", None
  )
  judged = set(prepared.main.groups(p.source for p in prepared.main.held_out))
  sft = prepared.stages["sft"]
  trained = set(sft.groups(x.source for x in sft.train))
  assert judged and trained and not judged & trained
  assert sft.facts["held_out_by_the_run"] > 0
  assert any("the run holds out their prompts" in x for x in prepared.lines)


def test_conversations_are_trained_on_and_answered(branching):
  rows = [
    {
      "messages": [
        {"role": "user", "content": f"q{i}"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "no"},
      ]
    }
    for i in range(40)
  ]
  branching.write_data(rows)
  branching.config.write_text(
    conftest.CONFIG.format(path=str(branching.data))
    .replace('("sft", "align")', '("sft",)')
    .replace("c.loss.beta = 0.1", 'c.loss = dict(name="sft")')
    .replace('c.sft = base.stage(dict(name="sft"), steps=2)', "pass")
    .replace("(32,)", "(64,)")
    .replace("tokens = 16", "tokens = 32")
    .replace(
      "c.data.eval",
      'c.data.source = "conversations"\n  c.data.template = "plain"\n'
      "  c.data.eval",
    )
  )
  message = branching.fails(branching.command("--config.data.template="))
  assert "config.data.template: no template is named" in message
  folder, _ = branching.train()
  results = json.loads((folder / "sft" / "results.json").read_text())
  # The model answers the whole conversation up to the last turn.
  assert all("and?" in p and "yes" in p for p in results["prompts"])
  assert all("no" not in p.split("and?")[1] for p in results["prompts"])
  message = branching.fails(["evaluate", f"--model={folder}"])
  assert "pairs are needed, and the data has sequences" in message


@pytest.mark.slow
def test_a_branch_is_resumed_from_its_own_start_alone(branching, monkeypatch):
  flags = ["--config.report=", "--config.sample.best_of=0"]
  folder, _ = branching.train(*flags)
  shutil.rmtree(folder / "sft")
  _, said = branching.train(
    *flags
  )  # the start is made again, the same to the bit
  assert "[dpo] resumes at step 2 of 2" in said
  shutil.rmtree(folder / "sft")
  monkeypatch.setattr(
    "jalign.experiment.run.fresh_params",
    lambda *arguments: jax.tree.map(
      lambda x: x * 1.01, start_params.fresh_params(*arguments)
    ),
  )
  shutil.rmtree(folder / "warmup")
  message = branching.fails(branching.command(*flags))
  assert "dpo: the stage's checkpoints were made from another start" in message
