"""float64 twins of jalign.losses.likelihood, a response at a time."""

import numpy as np


def sft(logps):
  return np.array([0.0 - logp for logp in logps])


def sft_avg(logps, lengths):
  return np.array([-logp / n for logp, n in zip(logps, lengths)])
