"""Sampling: one jitted loop over any policy, samplers, and mixtures."""

from jalign.decode.generate import generate
from jalign.decode.mixtures import MixtureParams, geometric
from jalign.decode.samplers import Sampler, greedy, inverse_cdf, sampler

__all__ = [
  "MixtureParams",
  "Sampler",
  "generate",
  "geometric",
  "greedy",
  "inverse_cdf",
  "sampler",
]
