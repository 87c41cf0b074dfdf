"""Held-out data in a file of its own, and conversions that change prompts."""

import json

import numpy as np
import pytest

from jalign import data
from jalign.data import tldr_world
from jalign.errors import UserError
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.data.prepare import prepare
from jalign.experiment.sampling import _numbers


def rows(first, count, **more):
  return [
    {"prompt": f"q{i}:", "chosen": " a", "rejected": " b", **more}
    for i in range(first, first + count)
  ]


@pytest.fixture
def files(tmp_path):
  def write(name, lines):
    path = tmp_path / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)

  return write


def settings(**changes):
  config = defaults()
  config["tokenizer"]["vocab_size"] = 272
  config["data"] |= changes
  return config


def test_the_users_split_stays_and_the_overlap_is_said(files, tmp_path):
  config = settings(
    path=files("train.jsonl", rows(0, 10)),
    eval_path=files("eval.jsonl", rows(7, 5)),
  )
  prepared = prepare(parse(config), tmp_path / "run", None)
  assert len(prepared.main.train) == 10 and len(prepared.main.held_out) == 5
  assert [p.text for p in prepared.main.eval_prompts][:1] == ["q7:"]
  said = prepared.summary()
  assert (
    "3 of 5 held-out pairs have prompts that are trained on (lines 1, 2, 3)"
  ) in said
  assert "10 pairs to train on, 5 held out (5 groups of prompts, some" in said
  assert prepared.main.facts["held_out_trained_on"] == 3
  assert prepared.main.facts["held_out_source"]["path"].endswith("eval.jsonl")

  apart = settings(
    path=files("train.jsonl", rows(0, 10)),
    eval_path=files("eval.jsonl", rows(10, 5)),
  )
  prepared = prepare(parse(apart), tmp_path / "run", None)
  assert "that are trained on" not in prepared.summary()
  assert prepared.main.facts["held_out_trained_on"] == 0


def test_a_stages_own_data_count_as_trained_on(files, tmp_path):
  config = settings(
    path=files("train.jsonl", rows(0, 10)),
    eval_path=files("eval.jsonl", rows(20, 20)),
  )
  config["stages"] = ("sft", "align")
  config["sft"] = {"data": {"path": files("sft.jsonl", rows(21, 40))}}
  parsed = parse(config)
  own = parsed.stage("sft").data
  assert own.eval_path == ""  # another file's held-out part isn't its own
  prepared = prepare(parsed, tmp_path / "run", None)
  trained = {p.text for p in prepared.stages["sft"].train_prompts}
  assert len(prepared.stages["sft"].train) == 40 - len(
    prepared.stages["sft"].held_out
  )
  both = sum(f"q{i}:" in trained for i in range(20, 40))
  assert 10 < both < 20
  assert f"{both} of 20 held-out pairs have prompts" in prepared.summary()


def test_pairs_to_evaluate_that_were_trained_on(files, tmp_path):
  config = parse(settings(path=files("train.jsonl", rows(0, 40))))
  prepared = prepare(config, tmp_path / "run", None)
  trained = {p.text for p in prepared.main.train_prompts}
  other = prepared.with_pairs(files("other.jsonl", rows(0, 50)), config)
  assert f"{len(trained)} of 50 held-out pairs have prompts" in other.summary()
  new = prepared.with_pairs(files("new.jsonl", rows(50, 5)), config)
  assert "trained on" not in new.summary()


def test_what_a_held_out_file_may_not_be(files, tmp_path):
  config = settings(
    path=files("train.jsonl", rows(0, 10)),
    eval_path=files("eval.jsonl", []),
  )
  with pytest.raises(UserError, match="eval.jsonl"):
    prepare(parse(config), tmp_path / "run", None)
  config = settings(
    source="tldr_world", path="preferences[:20]", eval_path="sft[:20]"
  )
  with pytest.raises(UserError, match="eval_path.*DemonstrationRecords"):
    prepare(parse(config), tmp_path / "run", None)


def test_judges_see_the_prompt_without_its_goal(files, tmp_path):
  scores = {"chosen_score": 2.0, "rejected_score": 1.0}
  config = settings(
    path=files("train.jsonl", rows(0, 30, **scores)),
    convert="reward_augmented",
  )
  dataset = prepare(parse(config), tmp_path / "run", None).main
  for prompt in (*dataset.train_prompts, *dataset.eval_prompts):
    assert prompt.text.startswith("q")
    assert prompt.written.startswith("Write a response of score ")
    assert prompt.written.endswith(prompt.text)
  batch = data.collate_prompts(dataset.eval_prompts, pad_id=0)
  assert all(text.startswith("q") for text in batch.texts)
  # Rows of both goals of a prompt are one cluster of an interval.
  count = len({p.text for p in dataset.eval_prompts})
  assert len(dataset.eval_prompts) == 2 * count
  assert len(set(_numbers(dataset.eval_prompts))) == count


def test_the_worlds_raters_judge_responses_under_a_goal():
  lists, _ = data.read("tldr_world", "ranked[:6]")
  pairs, _ = data.convert("best_and_worst", lists)
  under_goals, _ = data.convert("reward_augmented", pairs)
  asked = [record.plain for record in under_goals]
  preference = tldr_world.population(
    asked,
    [record.chosen for record in under_goals],
    [record.rejected for record in under_goals],
  )
  plain = tldr_world.population(
    [pair.prompt for pair in pairs],
    [pair.chosen for pair in pairs],
    [pair.rejected for pair in pairs],
  )
  np.testing.assert_allclose(preference[0::2], plain)
  np.testing.assert_allclose(preference[1::2], 1 - plain, atol=1e-6)
  # Conversions of these pairs to other records keep the plain prompt, too.
  for record in data.label_by_side(under_goals):
    assert record.plain and record.plain != record.prompt
