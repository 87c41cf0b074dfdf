"""Inputs for any loss, from the names that it takes."""

import numpy as np

LIST = 4  # responses a prompt


def _draw(rng, name, shape, logp):
  if name.endswith("logps"):
    return logp(shape)
  if name.endswith("lengths"):
    return rng.integers(1, 20, shape).astype(np.float32)
  if name == "preference":
    return rng.uniform(0, 1, shape)
  if name in ("desirable", "valid"):
    return rng.uniform(0, 1, shape) < 0.7
  return rng.normal(0, 1, shape)


def _arrays(names, batch, rows, seed, logp):
  rng = np.random.default_rng(seed)
  shape = (rows, LIST) if batch == "lists" else (rows,)
  arrays = {n: _draw(rng, n, shape, lambda s: logp(rng, s)) for n in names}
  # float32 values in every precision, so that an oracle sees what a loss sees
  return {
    name: x if x.dtype == bool else x.astype(np.float32).astype(np.float64)
    for name, x in arrays.items()
  }


def ordinary(names, batch, rows=16, seed=0):
  """Log-probs of short responses: both signs of every margin occur."""
  draw = lambda rng, shape: rng.uniform(-25, -5, shape)
  return _arrays(names, batch, rows, seed, draw)


def extreme(names, batch, rows=256, seed=1):
  """Log-probs of 1e4 and -1e4 in every combination, and equal ones."""
  draw = lambda rng, shape: rng.choice([-1e4, 1e4], shape)
  arrays = _arrays(names, batch, rows, seed, draw)
  rng = np.random.default_rng(seed)
  for name, x in arrays.items():
    if name.endswith("lengths"):
      arrays[name] = rng.choice([0.0, 1.0, 2000.0], x.shape)
    if name == "preference":
      arrays[name] = rng.choice([0.0, 0.5, 1.0], x.shape)
  return arrays
