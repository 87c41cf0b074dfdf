"""Rounds of the toy algorithms: a small model, six prompts and a reward."""

import functools

import numpy as np

from jalign.data import PromptBatch
from jalign.feedback import from_reward
from jalign.online import make_round
from tests.models.tiny import tiny

VOCAB, NEW, P = 8, 3, 6


@functools.cache
def tiny_model():
  return tiny(vocab_size=VOCAB, num_hidden_layers=1, remat="none")[1:]


def six_prompts():
  rng = np.random.default_rng(0)
  return PromptBatch(
    rng.integers(1, VOCAB, (P, 2)).astype(np.int32),
    np.full(P, 2, np.int32),
    np.ones(P, np.float32),
    [f"prompt {i}" for i in range(P)],
  )


def reward(prompt, response):
  return float(sum(map(int, response.split()))) / 5


def round_of(algorithm, judge=None, **options):
  decode = lambda ids: " ".join(map(str, ids))
  judge = judge or from_reward(reward)
  options = {"max_new_tokens": NEW, "stop_ids": (), "slots": 8} | options
  return make_round(algorithm, tiny_model()[0], judge, decode, **options)
