"""The allowed range of every number of a model's config."""

import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp


class Range(NamedTuple):
  """The numbers that a field may have.

  Attributes:
    low: the lower end.
    high: the upper end, included. It is generous, but small enough that
      computed values stay finite.
    whole: whether only whole numbers are allowed.
    above: whether `low` itself is excluded.
  """

  low: float
  high: float
  whole: bool = False
  above: bool = False

  def __str__(self) -> str:
    kind = "a whole number" if self.whole else "a number"
    start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
    return f"must be {kind} {start} to {self.high:g}"

  def holds(self, value: Any) -> bool:
    """Whether a value is a number in the range; True and "1" aren't numbers."""
    kind = numbers.Integral if self.whole else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind):
      return False
    number: Any = value
    inside = self.low <= number <= self.high  # False for NaN
    return inside and not (self.above and number == self.low)


def _size(high):
  return Range(1, high, whole=True)


_POSITIVE = Range(0, 1e18, above=True)
_FROM_ZERO = Range(0, 1e18)
# Field of ModelConfig -> its range.
FIELDS: Mapping[str, Range] = {
  "vocab_size": _size(2**24),
  "hidden_size": _size(2**20),
  "intermediate_size": _size(2**22),
  "num_hidden_layers": _size(2**11),
  "num_attention_heads": _size(2**16),
  "num_key_value_heads": _size(2**16),
  "head_dim": _size(2**16),
  "rope_theta": _POSITIVE,
  "rope_local_base_freq": _FROM_ZERO,
  "sliding_window": Range(0, 2**31 - 1, whole=True),
  "query_pre_attn_scalar": _FROM_ZERO,
  "attn_logit_softcapping": _FROM_ZERO,
  "final_logit_softcapping": _FROM_ZERO,
  "num_experts": Range(0, 2**10, whole=True),
  "num_experts_per_tok": Range(0, 2**10, whole=True),
  "embedding_scale": _POSITIVE,
  "learned_positions": Range(0, 2**24, whole=True),
  "rms_norm_eps": Range(0, 1, above=True),
  "initializer_range": Range(0, 1e3),
  "scan_unroll": _size(2**11),
}
SWITCHES = (
  "mlp_gated",
  "norm_topk_prob",
  "norm_offset",
  "tie_word_embeddings",
  "attention_bias",
  "attention_out_bias",
  "mlp_bias",
  "qk_norm",
  "qk_norm_flat",
)
# Parameter of a scaling of rotary positions -> its range. Where a parameter may
# be None, a formula gives its value.
SCALING: Mapping[str, Range] = {
  "factor": _POSITIVE,
  "original_max_position_embeddings": _size(2**31 - 1),
  "low_freq_factor": _POSITIVE,
  "high_freq_factor": _POSITIVE,
  "beta_fast": _POSITIVE,
  "beta_slow": _POSITIVE,
  "attention_factor": _POSITIVE,
  "mscale": _FROM_ZERO,
  "mscale_all_dim": _FROM_ZERO,
}


def dtype_name(given: Any) -> Any:
  """The name of a dtype, such as "float32" for jnp.float32 or "f4".

  Args:
    given: whatever `jnp.dtype` takes; for None and "" the name is "". Anything
      else is returned unchanged.
  """
  if given is None or (isinstance(given, str) and not given):
    return ""
  try:
    return jnp.dtype(given).name
  except TypeError:
    return given
