"""The world as records, as a source, and as a TFDS data set."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from jalign import data
from jalign.data import tldr_world as world
from jalign.errors import UserError


def test_records_do_not_depend_on_how_many_there_are():
  for config in world.CONFIGS:
    few, many = world.records(config, 20), world.records(config, 40)
    assert few == many[:20]
    assert len({r.source for r in many}) == 40
    assert all(r.group == r.prompt.strip() for r in many)
    assert world.records(config, 20, seed=1) != few
  prompts = [r.prompt for r in world.records("prompts", 20)]
  for config in ("sft", "preferences", "ranked", "binary"):
    assert [r.prompt for r in world.records(config, 20)] == prompts


def test_labels_follow_the_annotators():
  pairs = world.records("preferences", 3000)
  p = world.population(
    [r.prompt for r in pairs],
    [r.chosen for r in pairs],
    [r.rejected for r in pairs],
  )
  np.testing.assert_allclose(p, [r.preference for r in pairs])
  # The chosen response won a draw of probability p. The mean of 1 - p is the
  # probability that a label is the less likely one.
  wrong = np.mean(p < 0.5)
  q = np.where(p < 0.5, 1 - p, p)[p != 0.5]
  assert wrong == pytest.approx(np.mean(p != 0.5) * np.mean(1 - q), abs=0.03)
  for r in pairs[:50]:
    assert r.chosen_score == world.gold_reward(r.prompt, r.chosen)
    assert r.rejected_score == world.gold_reward(r.prompt, r.rejected)
  for r in world.records("ranked", 50):
    assert list(r.scores) == sorted(r.scores, reverse=True)
    assert len(set(r.responses)) == len(r.responses) == 4
    for text, score in zip(r.responses, r.scores):
      assert score == world.gold_reward(r.prompt, text)
  for r in world.records("binary", 200):
    assert r.desirable == (world.gold_cost(r.prompt, r.response) < 0)


def test_an_echo_is_a_rotation():
  starts = set()
  for r in world.records("echo", 200):
    there, back = r.prompt.split(), r.response.split()
    at = there.index(back[0])
    assert back == there[at:] + there[:at] and len(set(there)) == 12
    starts.add(at)
  assert starts == set(range(12))


def test_the_source_is_sliced_by_its_path():
  records, report = data.read("tldr_world", "preferences[:30]")
  assert report.summary() == "read 30 pairs, used 30"
  assert records == list(world.records("preferences", 30))
  for path in ("nope", "sft[:0]", "sft[3:]", ""):
    with pytest.raises(UserError, match="not a part"):
      data.read("tldr_world", path)


def test_a_tokenizer_of_words_round_trips_the_world(tmp_path):
  records = world.records("sft", 300)
  texts = [t for r in records for t in (r.prompt, r.response)]
  tokenizer = data.train_words(texts)
  assert tokenizer.vocab_size == len({w for t in texts for w in t.split()}) + 3
  tokenizer.save(tmp_path)
  loaded = data.load(tmp_path)
  for text in texts[:50]:
    ids = tokenizer.encode(text)
    assert loaded.encode(text) == ids and len(ids) == len(text.split())
    assert loaded.decode([*ids, loaded.eos_id]) == text.strip()
  with pytest.raises(UserError, match="can't be encoded .unknown: xyzzy"):
    loaded.encode("anna xyzzy")


@pytest.mark.parametrize("config", world.CONFIGS[:-1])
def test_tfds_builds_the_same_records(config, tmp_path):
  from jalign.data.tldr_world.builder import TldrConfig, TldrWorld

  builder = TldrWorld(
    config=TldrConfig(name=f"small_{config}", records=config, posts=60),
    data_dir=tmp_path,
    file_format="array_record",
  )
  builder.download_and_prepare()
  train, test = data.split(world.records(config, 60), 0.1, 0)
  for part, rows in (("train", train), ("test", test)):
    source = builder.as_data_source(split=part)
    texts = {bytes(example["prompt"]).decode() for example in source}
    assert texts == {row.prompt for row in rows}
    by_prompt = {row.prompt: row for row in rows}
    example = source[0]
    row = by_prompt[example["prompt"].decode()]
    if config == "preferences":
      assert example["chosen"].decode() == row.chosen
      assert example["preference"] == pytest.approx(row.preference)
    if config == "ranked":
      assert [t.decode() for t in example["responses"]] == list(row.responses)
      np.testing.assert_allclose(example["scores"], row.scores, rtol=1e-6)
    if config == "raters":
      group = world.group_of_rater(row.rater)
      assert example["rater_group"].decode() == group
    if config == "binary":
      assert bool(example["label"]) == row.desirable
  # The prepared data is a source like any other.
  pairs = dict.fromkeys(("preferences", "raters", "costs", "votes"), "pairs")
  kind = {"sft": "demonstrations", **pairs}.get(config, config)
  read, report = data.read(
    kind, f"tfds:tldr_world/small_{config}:train", data_dir=tmp_path
  )
  hidden = {name for name, _ in report.ignored}
  assert not report.skipped
  assert hidden == ({"rater_group"} if config == "raters" else set())
  fields = [f.name for f in dataclasses.fields(rows[0])]
  texts = [n for n in fields if n not in ("source", "group")]
  pick = lambda row: [getattr(row, n) for n in texts]
  picks = {row.prompt: pick(row) for row in read}
  groups = {row.prompt: row.group for row in read}
  for row in train:
    assert groups[row.prompt] == row.group  # so that both are split alike
    for got, want in zip(picks[row.prompt], pick(row)):
      if isinstance(want, float) or (
        isinstance(want, tuple) and isinstance(want[0], float)
      ):
        np.testing.assert_allclose(got, want, rtol=1e-6)  # stored as float32
      elif isinstance(want, dict):
        assert got == pytest.approx(want)
      else:
        assert got == want


def test_tfds_needs_no_tensorflow():
  code = (
    "import sys; import jalign.data.tldr_world.builder;"
    "assert 'tensorflow' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
