"""Sampling: one jitted loop for any policy, samplers, mixtures of policies."""

from jalign.decode.buckets import bucket, compiled
from jalign.decode.categorical import DrawnTokens, greedy, inverse_cdf, log_prob
from jalign.decode.continuations import continuation_logprobs
from jalign.decode.generate import generate, lower
from jalign.decode.mixtures import MixtureParams, geometric
from jalign.decode.regroup import regroup, regrouped
from jalign.decode.samplers import Sampler, sampler

__all__ = [
  "DrawnTokens",
  "MixtureParams",
  "Sampler",
  "bucket",
  "compiled",
  "continuation_logprobs",
  "generate",
  "geometric",
  "greedy",
  "inverse_cdf",
  "log_prob",
  "lower",
  "regroup",
  "regrouped",
  "sampler",
]
