"""Continuations that share a prefill have the log-probs of whole rows."""

import jax
import numpy as np
import pytest

from jalign import decode
from jalign.logprobs import sequence_logprobs
from jalign.types import Sequences
from tests.models.tiny import tiny


def _whole(model, params, prompt, said):
  """Log-probs of each token of `said`, from rows of prompt and response."""
  logps = []
  for k in range(len(said)):
    ids = np.concatenate([prompt, said[: k + 1]])[None]
    mask = np.arange(ids.shape[1])[None] == ids.shape[1] - 1
    row = Sequences(ids, mask, np.array([ids.shape[1]], np.int32))
    logps.append(float(sequence_logprobs(model, params, row)[0]))
  return logps


def test_log_probs_are_those_of_the_whole_sequence():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  rng = np.random.default_rng(0)
  prompts = rng.integers(1, 64, (2, 5)).astype(np.int32)
  starts = np.array([3, 5], np.int32)
  said = rng.integers(1, 64, (2, 3, 4)).astype(np.int32)
  sizes = np.array([[4, 1, 0], [2, 3, 4]], np.int32)
  got = decode.continuation_logprobs(
    model, params, prompts, starts, said, sizes
  )
  assert got.shape == (2, 3, 4)
  for b in range(2):
    for f in range(3):
      n = sizes[b, f]
      want = _whole(model, params, prompts[b, : starts[b]], said[b, f, :n])
      np.testing.assert_allclose(got[b, f, :n], want, atol=1e-5)
      np.testing.assert_array_equal(got[b, f, n:], 0)


def test_all_one_token_continuations_are_a_distribution():
  _, model, params = tiny(num_hidden_layers=1, remat="none", vocab_size=16)
  said = np.arange(16, dtype=np.int32).reshape(1, 16, 1)
  got = decode.continuation_logprobs(
    model,
    params,
    np.array([[3, 4]]),
    np.array([2]),
    said,
    np.ones((1, 16), np.int32),
  )
  np.testing.assert_allclose(np.exp(got).sum(), 1, rtol=1e-5)


def test_wrong_shapes_are_refused():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  with pytest.raises(AssertionError):
    decode.continuation_logprobs(
      model,
      params,
      np.ones((2, 3)),
      np.array([3, 3]),
      np.ones((1, 2, 2)),
      np.array([[2, 2]]),
    )


def test_lengths_within_a_bucket_share_a_program():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  rng = np.random.default_rng(1)
  before = sum(decode.compiled().values())
  for width in (17, 19):
    prompts = rng.integers(1, 64, (1, width)).astype(np.int32)
    jax.block_until_ready(
      decode.continuation_logprobs(
        model,
        params,
        prompts,
        np.array([width]),
        np.ones((1, 2, 2)),
        np.array([[2, 1]]),
      )
    )
  assert sum(decode.compiled().values()) == before + 1
