"""Filtered distributions equal those of the `transformers` processors."""

import jax.numpy as jnp
import numpy as np
import pytest

from jalign.decode import sampler

torch = pytest.importorskip(
  "torch", reason="the processors need torch: pip install jalign[bench]"
)

VOCAB, ROWS = 503, 12


@pytest.mark.parametrize(
  "settings",
  [
    dict(temperature=0.7),
    dict(top_k=40),
    dict(top_p=0.85),
    dict(min_p=0.03),
    dict(repetition_penalty=1.7),
    dict(repetition_penalty=0.6),
    dict(bias={3: 2.5, 400: -1.0}),
    dict(forbidden=(0, 17, 502)),
    dict(
      bias={7: 3.0},
      repetition_penalty=1.3,
      forbidden=(1, 2),
      temperature=1.4,
      top_k=60,
      top_p=0.9,
      min_p=0.01,
    ),
  ],
)
def test_the_law_of_the_processors(settings):
  from transformers import generation as hf

  rng = np.random.default_rng(0)
  logits = (3 * rng.normal(size=(ROWS, VOCAB))).astype(np.float32)
  context = rng.integers(0, VOCAB, (ROWS, 60))
  steps = []
  if "bias" in settings:
    bias = {(token,): value for token, value in settings["bias"].items()}
    steps.append(hf.SequenceBiasLogitsProcessor(bias))
  if "repetition_penalty" in settings:
    penalty = settings["repetition_penalty"]
    steps.append(hf.RepetitionPenaltyLogitsProcessor(penalty))
  if "forbidden" in settings:
    steps.append(hf.SuppressTokensLogitsProcessor(list(settings["forbidden"])))
  for key, kind in (
    ("temperature", hf.TemperatureLogitsWarper),
    ("top_k", hf.TopKLogitsWarper),
    ("top_p", hf.TopPLogitsWarper),
    ("min_p", hf.MinPLogitsWarper),
  ):
    if key in settings:
      steps.append(kind(settings[key]))
  want = torch.tensor(logits)
  for step in steps:
    want = step(torch.tensor(context), want)
  want = torch.softmax(want, -1).numpy()
  seen = np.zeros((ROWS, VOCAB), bool)
  seen[np.arange(ROWS)[:, None], context] = True
  got = sampler(**settings).filter(jnp.asarray(logits), jnp.asarray(seen))
  got = np.exp(np.asarray(got, np.float64))
  got /= got.sum(-1, keepdims=True)
  np.testing.assert_array_equal(got > 0, want > 0)
  np.testing.assert_allclose(got, want, atol=1e-6)
