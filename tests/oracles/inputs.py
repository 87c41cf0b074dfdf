"""Inputs for any loss, made from its arguments' names."""

import numpy as np

from jalign.training.kinds import vocabulary

SIZES = {
  "2": 2,
  "C": 4,  # candidate tokens
  "D": 5,  # inputs of a head
  "I": 3,  # aligned models
  "K": 4,  # responses a prompt
  "M": 1,  # objectives of a margin
  "T": 6,  # tokens
  "V": 7,  # vocabulary
  "Z": 4,  # an embedding
}
# Sizes of one kind of batch: a reward model's head has several objectives.
SIZES_OF = {"scores": {"M": 3}}
PROBABILITIES = ("preference", "desirable_rate", "ratings")


def _draw(rng, name, axes, shape, logp):
  if name.endswith("logps"):
    return logp(shape, "T" in axes)
  if name.endswith("lengths"):
    return rng.integers(1, 20, shape).astype(np.float32)
  if name.endswith(PROBABILITIES):
    return rng.uniform(0, 1, shape)
  if name.endswith("errors"):
    return rng.uniform(0, 1, shape)
  if name == "objective":
    return rng.integers(0, 2, shape)
  return rng.normal(0, 1, shape)


def _arrays(names, batch, rows, seed, logp):
  rng = np.random.default_rng(seed)
  arrays = {}
  for name in names:
    axes, _, kind = vocabulary(batch)[name].partition(" ")
    sizes = SIZES | SIZES_OF.get(batch, {})
    shape = tuple(rows if axis == "B" else sizes[axis] for axis in axes)
    if kind == "bool":
      arrays[name] = rng.uniform(0, 1, shape) < 0.7
    else:
      x = _draw(rng, name, axes, shape, lambda *a: logp(rng, *a))
      # values of float32 in every precision, so that an oracle and a loss get
      # the same numbers
      arrays[name] = x.astype(np.float32).astype(np.float64)
  return arrays


def ordinary(names, batch, rows=16, seed=0):
  """Log-probs of short responses and of tokens; all signs of margins occur."""

  def draw(rng, shape, token):
    return rng.uniform(*((-5, -0.01) if token else (-25, -5)), shape)

  return _arrays(names, batch, rows, seed, draw)


def extreme(names, batch, rows=256, seed=1):
  """Log-probs of 1e4 and -1e4 in every combination, and equal ones.

  Tokens' log-probs are -1e4, nearly 0 and 0. Lengths, and numbers of valid
  responses and of scored tokens, may be 0.
  """

  def draw(rng, shape, token):
    return rng.choice([-1e4, -1e-6, 0.0] if token else [-1e4, 1e4], shape)

  arrays = _arrays(names, batch, rows, seed, draw)
  rng = np.random.default_rng(seed)
  for name, x in arrays.items():
    if name.endswith("lengths"):
      arrays[name] = rng.choice([0.0, 1.0, 2000.0], x.shape)
    elif name.endswith(PROBABILITIES):
      arrays[name] = rng.choice([0.0, 0.5, 1.0], x.shape)
    elif name.endswith(("scores", "rewards", "values", "costs", "logits")):
      arrays[name] = rng.choice([-1e4, 0.0, 1e4], x.shape)
    elif name.endswith("errors"):
      arrays[name] = rng.choice([0.0, 1e-6, 1e4], x.shape)
    elif x.dtype == bool and x.ndim > 1:
      arrays[name] = x & (np.arange(rows) % 4 > 0).reshape(
        -1, *(1,) * (x.ndim - 1)
      )
  return arrays
