"""The shape of a transformer, with the field names of Hugging Face configs."""

import dataclasses
from typing import Any

from jalign.errors import UserError
from jalign.sharding import RULES, Rules

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("auto", "xla", "cudnn", "pallas")
REMAT = ("none", "block", "dots")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder-only transformer of the Llama and Qwen shape.

  Frozen and hashable: equal configs share one compiled program. The sharding
  rules live here for that reason, since a context of rules would not be part
  of the key of jit's cache.

  Attributes:
    vocab_size: V.
    hidden_size: D.
    intermediate_size: F.
    num_hidden_layers: L.
    num_attention_heads: H.
    num_key_value_heads: G, a divisor of H.
    head_dim: E, even; hidden_size / num_attention_heads by default.
    rope_theta: base of the rotary frequencies.
    rms_norm_eps: added to the mean square in every norm.
    tie_word_embeddings: use the input embedding as the output embedding.
    attention_bias: biases on the query, key and value projections.
    qk_norm: RMS norm on queries and keys, per head, before the rotation.
    initializer_range: standard deviation of the initial weights.
    dtype: of activations and matrix products.
    param_dtype: of the parameters.
    cache_dtype: of cached keys and values. "" is that of activations, on the
      CPU float32 for bfloat16; "int8" (see KVCache) takes half the memory of
      bfloat16.
    attention: "xla" is the reference, which runs everywhere; "cudnn" needs an
      NVIDIA GPU and bfloat16 or float16; "pallas" has kernels for the steps of
      decoding on GPUs, and for all attention on TPUs. "auto" takes by platform
      what models/attention.py lists, and the reference where no kernel fits.
    remat: what the backward pass computes again, a name of `REMAT`: "none"
      keeps every activation of a layer, "block" only its input, "dots" also
      the products with weights (less to compute, more to keep).
    scan_unroll: layers of one iteration of the scan over layers. More make
      a step faster where layers are small, and compiling slower.
    rules: logical axis -> mesh axes.
  """

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int = 0
  rope_theta: float = 10_000.0
  rms_norm_eps: float = 1e-6
  tie_word_embeddings: bool = True
  attention_bias: bool = False
  qk_norm: bool = False
  initializer_range: float = 0.02
  dtype: str = "float32"
  param_dtype: str = "float32"
  cache_dtype: str = ""
  attention: str = "auto"
  remat: str = "block"
  scan_unroll: int = 1
  rules: Rules = RULES

  def __post_init__(self):
    if not self.head_dim:
      width, rest = divmod(self.hidden_size, max(self.num_attention_heads, 1))
      self._require(not rest, "num_attention_heads", "must divide hidden_size")
      object.__setattr__(self, "head_dim", width)
    for name in (
      "vocab_size",
      "hidden_size",
      "intermediate_size",
      "num_hidden_layers",
      "num_attention_heads",
      "num_key_value_heads",
      "scan_unroll",
    ):
      self._require(getattr(self, name) >= 1, name, "must be at least 1")
    self._require(
      self.num_attention_heads % self.num_key_value_heads == 0,
      "num_key_value_heads",
      "must divide num_attention_heads",
    )
    self._require(self.head_dim % 2 == 0, "head_dim", "must be even (rotary)")
    for name, valid in (
      ("dtype", DTYPES),
      ("param_dtype", DTYPES),
      ("cache_dtype", ("", *DTYPES, "int8")),
      ("attention", ATTENTIONS),
    ):
      self._require(
        getattr(self, name) in valid, name, f"must be one of {valid}"
      )
    self._require(self.remat in REMAT, "remat", f"must be one of {REMAT}")

  def _require(self, condition: bool, name: str, rule: str) -> None:
    if not condition:
      value: Any = getattr(self, name)
      raise UserError(f"{value!r} {rule}.", where=f"model.{name}")
