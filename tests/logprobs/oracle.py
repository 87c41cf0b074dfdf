"""Statistics of logits in float64, from their definitions.

Gradients are central differences of the values, so that none of the library's
formulas is repeated here.
"""

import numpy as np


def logits(hidden, weight, scale=1.0, cap=None, temperature=1.0):
  """[B, T, V] logits; the temperature is a number or [B]."""
  z = scale * np.asarray(hidden, np.float64) @ np.asarray(weight, np.float64).T
  if cap is not None:
    z = cap * np.tanh(z / cap)
  temperature = np.asarray(temperature, np.float64)
  return z / (temperature[:, None, None] if temperature.ndim else temperature)


def log_softmax(z):
  z = z - z.max(-1, keepdims=True)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


def pick(x, targets):
  """[B, T] entries of [B, T, V] at the targets."""
  return np.take_along_axis(x, np.asarray(targets)[..., None], -1)[..., 0]


def statistics(z, targets):
  """Name -> [B, T] statistic of logits z."""
  logps = log_softmax(z)
  return {
    "logps": pick(logps, targets),
    "entropy": -(np.exp(logps) * logps).sum(-1),
    "lse": (z - logps)[..., 0],
    "mean_logit": z.mean(-1),
    "top_logp": logps.max(-1),
    "top_token": z.argmax(-1),
  }


def kl(z, ref):
  """[B, T] KL(z || ref) of logits."""
  logps = log_softmax(z)
  return (np.exp(logps) * (logps - log_softmax(ref))).sum(-1)


def mixture(z, ref, targets, mix):
  """[B, T] log-probs under the geometric mixture of two models."""
  mix = np.asarray(mix, np.float64).reshape(-1, 1, 1)
  weights = np.exp(log_softmax(z)) ** (1 - mix) * np.exp(log_softmax(ref)) ** (
    mix
  )
  return np.log(pick(weights / weights.sum(-1, keepdims=True), targets))


def gradient(function, *arrays, step=1e-5):
  """The gradients of a scalar function in each of its arrays."""
  arrays = [np.array(x, np.float64) for x in arrays]
  slopes = []
  for x in arrays:
    out = np.zeros_like(x)
    for at in np.ndindex(x.shape):
      value = x[at]
      x[at] = value + step
      high = function(*arrays)
      x[at] = value - step
      low = function(*arrays)
      x[at] = value
      out[at] = (high - low) / (2 * step)
    slopes.append(out)
  return slopes
