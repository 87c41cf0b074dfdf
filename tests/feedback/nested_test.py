"""Judges within a judge, where there are several processes."""

import jax
import numpy as np

from jalign import hosts
from jalign.feedback import Judge, assess, compare, from_reward, make_answers
from jalign.feedback.combine import mixture, weighted

ANSWERS = make_answers(["p", "q", "r", "s"], ["a", "bb", "ccc", "dddd"])
OTHERS = make_answers(ANSWERS.prompts, ["aaa", "b", "ccc", "d"])


def _two_processes(monkeypatch):
  """Plays two processes that each ask for half; returns calls to divide."""
  calls = []

  def divided(keys, function):
    calls.append(len(keys))
    half = len(keys) // 2
    parts = [function(range(half)), function(range(half, len(keys)))]
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(hosts, "divided", divided)
  monkeypatch.setattr(hosts, "exchange", lambda own: [own, own])
  return calls


def test_judges_of_texts_are_divided_once_as_a_whole(monkeypatch):
  asked = []
  length = from_reward(lambda p, x: asked.append(x) or len(x))
  judge = weighted({"x": length, "y": length}, {"x": 1.0, "y": 2.0})
  calls = _two_processes(monkeypatch)
  told = assess(judge, ANSWERS)
  assert told.reward.tolist() == [3, 6, 9, 12] and calls == [4]
  assert sorted(asked) == sorted(ANSWERS.texts * 2)
  p = compare(
    mixture({"x": length}, None), *map(assess_none, (ANSWERS, OTHERS))
  )
  gaps = np.array([-2, 1, 0, 3])
  np.testing.assert_allclose(p, 1 / (1 + np.exp(-gaps)), rtol=1e-6)
  assert calls == [4, 4]


def assess_none(answers):
  return assess(Judge(preference=lambda a, b: None), answers)


def test_with_a_judge_of_tokens_only_judges_of_texts_are_divided(monkeypatch):
  tokens = Judge(
    reward=lambda answers: np.full(len(answers.texts), 10.0), reads_tokens=True
  )
  length = from_reward(lambda p, x: len(x))
  judge = weighted({"x": length, "y": tokens}, {"x": 1.0, "y": 1.0})
  assert judge.reads_tokens
  calls = _two_processes(monkeypatch)
  assert assess(judge, ANSWERS).reward.tolist() == [11, 12, 13, 14]
  assert calls == [4]
