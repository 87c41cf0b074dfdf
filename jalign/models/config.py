"""The shape of a transformer, with the field names of Hugging Face configs."""

import dataclasses
from typing import Any

from jalign.errors import UserError
from jalign.models.config_ranges import FIELDS, SWITCHES, dtype_name
from jalign.models.layers import ACTIVATIONS
from jalign.models.rope import scaling_of
from jalign.sharding import RULES, Rules

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("auto", "xla", "cudnn", "pallas")
REMAT = ("none", "block", "dots")
NORM_POSITIONS = ("pre", "post", "both")
NORMS = ("rms", "layer")
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder-only transformer: Llama's shape, and what other families add.

  Frozen and hashable: equal configs share one compiled program. The sharding
  rules live here for that reason, since a context of rules would not be part
  of the key of jit's cache.

  Attributes:
    vocab_size: V.
    hidden_size: D.
    intermediate_size: F; of each expert where there are experts.
    num_hidden_layers: L.
    num_attention_heads: H.
    num_key_value_heads: G, a divisor of H.
    head_dim: E, even; hidden_size / num_attention_heads by default.
    rope_theta: base of the rotary frequencies.
    rope_scaling: as Hugging Face's `rope_parameters`: a mapping, or pairs, of
      "rope_type" (linear, dynamic, llama3, yarn) and what it takes.
    rope_local_base_freq: base in layers with a window, without the scaling; 0
      for the same as elsewhere.
    no_rope_layers: 1 for each layer that rotates, 0 for each that doesn't, as
      Hugging Face has it; () for all that rotate.
    sliding_window: keys that a query sees in layers with a window, itself
      included; 0 for no window.
    layer_types: "sliding_attention" or "full_attention" for each layer; () for
      a window in all layers, if there is one.
    query_pre_attn_scalar: scores are divided by its root; 0 for head_dim.
    attn_logit_softcapping: bound on scores by tanh; 0 for none.
    final_logit_softcapping: the same of logits.
    hidden_act: a name of `layers.ACTIVATIONS`.
    mlp_gated: down(act(gate x) * up x); without, down(act(up x)).
    num_experts: of each layer's mlp; 0 for a mlp without experts.
    num_experts_per_tok: those whose outputs a token sums.
    norm_topk_prob: their probabilities are divided by their sum.
    norm_type: "rms", or "layer": with the mean taken off, and a bias.
    norm_position: where a layer's norms stand: "pre", before attention and
      mlp; "post", behind them and before the sum; "both".
    norm_offset: norms multiply by 1 + weight.
    embedding_scale: factor on embeddings, not on the head.
    learned_positions: an embedding for each position up to this many is added
      to the token's, and nothing rotates; 0 for rotary positions.
    rms_norm_eps: added to the mean square, or the variance, in every norm.
    tie_word_embeddings: use the input embedding as the output embedding.
    attention_bias: biases on the query, key and value projections.
    attention_out_bias: a bias on attention's output projection.
    mlp_bias: biases in the mlp.
    qk_norm: RMS norm on queries and keys, per head, before the rotation.
    qk_norm_flat: such a norm over all heads together, with a weight for each
      entry.
    initializer_range: standard deviation of the initial weights.
    model_type: family of an exported config.json, a key of `hf.FAMILIES`; ""
      for the first that fits. It changes nothing that is computed.
    dtype: of activations and matrix products; by name, or as `jnp.dtype`
      takes it.
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
  rope_scaling: Any = ()
  rope_local_base_freq: float = 0.0
  no_rope_layers: tuple[int, ...] = ()
  sliding_window: int = 0
  layer_types: tuple[str, ...] = ()
  query_pre_attn_scalar: float = 0.0
  attn_logit_softcapping: float = 0.0
  final_logit_softcapping: float = 0.0
  hidden_act: str = "silu"
  mlp_gated: bool = True
  num_experts: int = 0
  num_experts_per_tok: int = 0
  norm_topk_prob: bool = True
  norm_type: str = "rms"
  norm_position: str = "pre"
  norm_offset: bool = False
  embedding_scale: float = 1.0
  learned_positions: int = 0
  rms_norm_eps: float = 1e-6
  tie_word_embeddings: bool = True
  attention_bias: bool = False
  attention_out_bias: bool = False
  mlp_bias: bool = False
  qk_norm: bool = False
  qk_norm_flat: bool = False
  initializer_range: float = 0.02
  model_type: str = ""
  dtype: str = "float32"
  param_dtype: str = "float32"
  cache_dtype: str = ""
  attention: str = "auto"
  remat: str = "block"
  scan_unroll: int = 1
  rules: Rules = RULES

  def __post_init__(self):
    for name in ("dtype", "param_dtype", "cache_dtype"):
      object.__setattr__(self, name, dtype_name(getattr(self, name)))
    for name in ("hidden_size", "num_attention_heads"):
      self._in_range(name)
    if type(self.head_dim) is int and not self.head_dim:
      width, remainder = divmod(self.hidden_size, self.num_attention_heads)
      self._require(
        not remainder, "num_attention_heads", "must divide hidden_size"
      )
      object.__setattr__(self, "head_dim", width)
    for name in FIELDS:
      self._in_range(name)
    for name in SWITCHES:
      self._require(
        isinstance(getattr(self, name), bool), name, "must be true or false"
      )
    self._require(
      self.num_attention_heads % self.num_key_value_heads == 0,
      "num_key_value_heads",
      "must divide num_attention_heads",
    )
    self._require(
      self.head_dim % 2 == 0 or self.learned_positions > 0,
      "head_dim",
      "must be even (rotary)",
    )
    self._require(
      0 < self.num_experts_per_tok <= self.num_experts
      or self.num_experts == self.num_experts_per_tok == 0,
      "num_experts_per_tok",
      "must be between 1 and num_experts, or 0 without experts",
    )
    self._require(
      not self.num_experts or (self.mlp_gated and not self.mlp_bias),
      "num_experts",
      "goes with gated mlps without biases",
    )
    self._require(
      self.norm_type == "rms" or self.norm_position == "pre",
      "norm_type",
      "stands before attention and mlp alone (norm_position)",
    )
    for name, valid in (
      ("dtype", DTYPES),
      ("param_dtype", DTYPES),
      ("cache_dtype", ("", *DTYPES, "int8")),
      ("attention", ATTENTIONS),
      ("hidden_act", tuple(ACTIVATIONS)),
      ("norm_position", NORM_POSITIONS),
      ("norm_type", NORMS),
    ):
      self._require(
        getattr(self, name) in valid, name, f"must be one of {valid}"
      )
    self._require(self.remat in REMAT, "remat", f"must be one of {REMAT}")
    object.__setattr__(self, "rope_scaling", scaling_of(self.rope_scaling))
    per_layer: tuple[tuple[str, tuple[Any, ...]], ...] = (
      ("layer_types", (FULL, SLIDING)),
      ("no_rope_layers", (0, 1)),
    )
    for name, choices in per_layer:
      values = tuple(getattr(self, name))
      object.__setattr__(self, name, values)
      self._require(
        len(values) in (0, self.num_hidden_layers)
        and all(value in choices for value in values),
        name,
        f"must have one of {choices} for each layer",
      )
    self._require(
      SLIDING not in self.layer_types or self.sliding_window > 0,
      "sliding_window",
      "must be at least 1 where layers have a window",
    )

  @property
  def windows(self) -> tuple[int, ...]:
    """Of each layer; 0 for none."""
    types = self.layer_types or (SLIDING,) * self.num_hidden_layers
    return tuple(self.sliding_window * (kind == SLIDING) for kind in types)

  def _in_range(self, name: str) -> None:
    self._require(
      FIELDS[name].holds(getattr(self, name)), name, str(FIELDS[name])
    )

  def _require(self, condition: bool, name: str, rule: str) -> None:
    if not condition:
      value: Any = getattr(self, name)
      raise UserError(f"{value!r} {rule}.", where=f"model.{name}")
