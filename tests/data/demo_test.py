"""The demo's data: the generator's texts, its reward, its size."""

import pathlib

import numpy as np
import pytest

from jalign import data
from jalign.configs import base
from jalign.configs.data import demo_reward, make_demo_preferences

FILE = pathlib.Path(base.bundled("demo_preferences.jsonl"))


@pytest.fixture
def demo():
  return make_demo_preferences, demo_reward


def test_file_is_what_the_generator_writes(demo):
  make, _ = demo
  assert FILE.read_text(encoding="utf-8") == make.to_text(make.make_pairs())
  assert make.make_pairs(20, seed=1) != make.make_pairs(20, seed=2)
  assert FILE.stat().st_size < 400_000


def test_labels_agree_with_the_reward_at_the_stated_rate(demo):
  make, reward = demo
  records, report = data.read_jsonl(FILE)
  assert report.summary() == "read 1200 pairs, used 1200"
  margins = []
  for r in records:
    margins.append(
      reward.reward(r.prompt, r.chosen) - reward.reward(r.prompt, r.rejected)
    )
    assert margins[-1] == pytest.approx(r.chosen_score - r.rejected_score)
    probability = 1 / (1 + np.exp(-margins[-1]))
    assert r.preference == pytest.approx(probability, abs=1e-4)
  agree = np.mean(np.array(margins) > 0)
  assert "15 % of the labels contradict the reward" in " ".join(
    make.__doc__.split()
  )
  assert agree == pytest.approx(0.85, abs=0.01)
  # The labels agree as often as Bradley-Terry's probabilities say.
  sure = 1 / (1 + np.exp(-np.abs(margins)))
  assert agree == pytest.approx(sure.mean(), abs=0.03)


def test_there_is_something_to_improve(demo):
  _, reward = demo
  records, _ = data.read_jsonl(FILE)
  best = np.mean([r.chosen_score for r in records])
  worst = np.mean([r.rejected_score for r in records])
  assert worst + 1 < best < 7  # of 8


def test_notes_fit_in_forty_tokens():
  records, _ = data.read_jsonl(FILE)
  texts = [t for r in records for t in (r.prompt, r.chosen, r.rejected)]
  tokenizer = data.train_bpe(texts, 512)
  pairs, cut = data.encode_pairs(
    records,
    tokenizer,
    data.Limits(max_tokens=80, max_prompt_tokens=40, max_response_tokens=40),
  )
  assert not any(part.cut for part in cut.parts.values())
  assert max(map(data.pair_length, pairs)) <= 64


@pytest.mark.parametrize(
  "response, score",
  [
    (" Thank you, Dana! We will send 3 red lamps to Lisbon.", 8.0),
    (" Thank you, Dana! We will send 4 red lamps to Lisbon.", 6.5),
    (" Thank you, Rosa! We will send 3 red lamps to Lisbon.", 6.0),
    (" 3 red lamps to Lisbon.", 6.0),
    (" Ugh, Dana. 3 red lamps to Lisbon.", 4.0),
    (" Thank you, Dana! 3 red lamps to Lisbon", 7.0),
    (" Thank you, Dana! 3 red red lamps to Lisbon.", 7.0),
    (" Thank you, Dana! 3 red or blue lamps to Lisbon.", 6.5),
    ("", -1.0),
  ],
)
def test_reward(demo, response, score):
  note = "Dana in Lisbon wants 3 red lamps."
  assert demo[1].reward(note, response) == score


def test_reward_takes_words_beyond_thirteen(demo):
  note = "Dana in Lisbon wants 3 red lamps."
  good = " Thanks for your order, Dana! We will send 3 red lamps to Lisbon."
  assert demo[1].reward(note, good) == 8.0
  assert demo[1].reward(note, good + " It may rain.") == 7.25
  assert demo[1].reward(note, good + " It may" * 20 + ".") == 6.0
