"""Judges trained by verdicts and by rewrites, against log-probs by hand."""

import functools

import jax
import numpy as np
import pytest

from jalign import data
from jalign.data.judging import rewrite_prompt, verdict_prompt
from jalign.data.limits import start_ids
from jalign.feedback import assess, compare, make_answers, trained_judges
from jalign.feedback.local_model import Loaded
from tests.models.tiny import tiny

PROMPTS = ["p q", "q", "q q p p"]
A, B = ["x", "y y x", "x"], ["y x", "x", "x y"]


@functools.cache
def _loaded():
  tokenizer = data.train_words(
    ["p q x y Response A: B: A B Verdict: Response: Better:"]
  )
  _, model, params = tiny(
    vocab_size=tokenizer.vocab_size,
    hidden_size=16,
    num_hidden_layers=1,
    remat="none",
  )
  return Loaded(model, params, tokenizer, None)


def _logits(ids):
  own = _loaded()
  hidden = jax.jit(own.model.forward)(own.params, np.array(ids)[None])
  weight = np.asarray(own.model.head(own.params).weight, np.float64)
  return np.asarray(hidden[0], np.float64) @ weight.T


def _by_hand(prompt, a, b):
  tokenizer = _loaded().tokenizer
  ids = start_ids(verdict_prompt(prompt, a, b), tokenizer, False)
  last = _logits(ids)[-1]
  first, second = (last[tokenizer.encode(x)[0]] for x in ("A", "B"))
  return 1 / (1 + np.exp(second - first))


@pytest.mark.parametrize("rows", [2, 16])
def test_the_verdicts_probability_in_both_orders(rows):
  judge = trained_judges.from_verdicts(_loaded, rows=rows)
  sides = make_answers(PROMPTS, A), make_answers(PROMPTS, B)
  got = compare(judge, *(assess(judge, side) for side in sides))
  want = [
    (_by_hand(p, a, b) + 1 - _by_hand(p, b, a)) / 2
    for p, a, b in zip(PROMPTS, A, B)
  ]
  assert np.ptp(want) > 1e-3
  np.testing.assert_allclose(got, want, atol=1e-5)
  turned = compare(judge, *(assess(judge, side) for side in sides[::-1]))
  np.testing.assert_allclose(got + turned, 1, atol=1e-6)


def test_the_mean_of_two_orders(monkeypatch):
  """P(A | ab) = .8 and P(A | ba) = .4 give .70."""
  logs = iter([[np.log([[0.4], [0.1]]), np.log([[0.2], [0.3]])]])
  monkeypatch.setattr(
    trained_judges, "scored_after", lambda own, before, said: next(logs)
  )
  monkeypatch.setattr(
    trained_judges, "parts_of", lambda lengths, rows: [[0, 1]]
  )
  got = trained_judges.verdict_probabilities(_loaded(), ["p"], ["x"], ["y"])
  np.testing.assert_allclose(got, [[0.8, 0.6]])
  np.testing.assert_allclose(got.mean(1), 0.70)


def test_tokens_score_by_what_the_model_would_write():
  own = _loaded()
  scores = trained_judges.rewrite_scores(own, PROMPTS, A, rows=2)
  centred = trained_judges.rewrite_scores(own, PROMPTS, A, rows=2, centred=True)
  for prompt, text, got, other in zip(PROMPTS, A, scores, centred):
    before = start_ids(rewrite_prompt(prompt, text), own.tokenizer, False)
    said = [*own.tokenizer.encode(text), own.tokenizer.eos_id]
    z = _logits([*before, *said])[len(before) - 1 : -1]
    agree = np.where(z.argmax(-1) == said, 1.0, -1.0)
    np.testing.assert_allclose(got, agree / len(said), rtol=1e-6)
    logps = z - np.logaddexp.reduce(z, -1, keepdims=True)
    logps = logps[np.arange(len(said)), said]
    assert got.shape == other.shape
    order = np.argsort(logps)
    np.testing.assert_array_equal(np.argsort(other), order)
    np.testing.assert_allclose(other.sum(), 0, atol=1e-5)
  judge = trained_judges.from_rewrites(_loaded)
  rewards = assess(judge, make_answers(PROMPTS, A)).numbers("reward")
  np.testing.assert_allclose(rewards, [x.sum() for x in scores], rtol=1e-6)
