"""The config of a transformer, with the field names of Hugging Face configs."""

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
  """A decoder-only transformer: Llama's, with the options of other families.

  The config is frozen and hashable, so that equal configs share one compiled
  program. It also holds the sharding rules, because rules in a context would
  not be part of the key of jit's cache.

  Attributes:
    vocab_size: V, number of tokens of the vocabulary.
    hidden_size: D, width of the hidden states.
    intermediate_size: F, inner width of the mlp, or of each expert.
    num_hidden_layers: L, number of layers.
    num_attention_heads: H, number of query heads.
    num_key_value_heads: G, number of key and value heads, a divisor of H.
    head_dim: E, width of a head, even; 0 for hidden_size / num_attention_heads.
    rope_theta: base of the rotary frequencies.
    rope_scaling: scaling of rotary positions, as Hugging Face's
      `rope_parameters`: a mapping or pairs with "rope_type" (linear, dynamic,
      llama3, yarn) and the parameters of that type; () for no scaling.
    rope_local_base_freq: base of the rotary frequencies in layers with a
      window, which aren't scaled; 0 for the base and scaling of other layers.
    no_rope_layers: for each layer 1 if it has rotary positions and 0 if it
      doesn't, as in Hugging Face's configs; () for rotary positions everywhere.
    sliding_window: number of keys that a query sees in layers with a window,
      its own key included; 0 for no window.
    layer_types: "sliding_attention" or "full_attention" for each layer; () for
      sliding_window in all layers.
    query_pre_attn_scalar: attention scores are divided by its square root; 0
      for head_dim.
    attn_logit_softcapping: bound on attention scores by tanh; 0 for no bound.
    final_logit_softcapping: bound on logits by tanh; 0 for no bound.
    hidden_act: activation of the mlp: silu, gelu, gelu_pytorch_tanh, gelu_new
      or relu.
    mlp_gated: whether the mlp is down(act(gate x) * up x) rather than
      down(act(up x)).
    num_experts: number of experts in each layer's mlp; 0 for no experts.
    num_experts_per_tok: number of experts that each token goes to.
    norm_topk_prob: whether the chosen experts' probabilities are divided by
      their sum.
    norm_type: "rms", or "layer" for layer norms, which subtract the mean and
      have a bias.
    norm_position: where a layer has norms: "pre", before attention and before
      the mlp; "post", after each of them and before the residual sum; "both".
    norm_offset: whether norms multiply by 1 + weight rather than by weight.
    embedding_scale: factor on embeddings, but not on the head.
    learned_positions: number of learned position embeddings, which are added to
      the tokens' and replace rotary positions; 0 for rotary positions.
    rms_norm_eps: number added to the mean square, or the variance, in norms.
    tie_word_embeddings: whether the input embedding is the output embedding.
    attention_bias: whether query, key and value projections have biases.
    attention_out_bias: whether attention's output projection has a bias.
    mlp_bias: whether the mlp's projections have biases.
    qk_norm: whether queries and keys have an RMS norm per head, before the
      rotation.
    qk_norm_flat: whether queries and keys have an RMS norm over all heads
      together, with a weight for each entry.
    initializer_range: standard deviation of the initial weights.
    model_type: family of an exported config.json, a key of `hf.FAMILIES`; ""
      for the first family that fits. It changes no computation.
    dtype: dtype of activations and matrix products: a name, or whatever
      `jnp.dtype` takes.
    param_dtype: dtype of the parameters.
    cache_dtype: dtype of cached keys and values; "" for that of activations
      (but float32 instead of bfloat16 on the CPU). "int8" (see KVCache) takes
      half the memory of bfloat16.
    attention: implementation of attention. "xla" is the reference, which runs
      everywhere; "cudnn" needs an NVIDIA GPU and bfloat16 or float16; "pallas"
      has kernels for decoding steps on GPUs and for all attention on TPUs.
      "auto" chooses by platform as models/attention.py lists, and takes the
      reference where no kernel fits.
    remat: what the backward pass keeps rather than computes again: "none" keeps
      every activation of a layer; "block" keeps only the layer's input; "dots"
      also keeps products with weights, for more memory and less computation.
    scan_unroll: number of layers in one iteration of the scan over layers. More
      make a step faster where layers are small, and compilation slower.
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
      "needs gated mlps without biases (mlp_gated, mlp_bias)",
    )
    self._require(
      self.norm_type == "rms" or self.norm_position == "pre",
      "norm_type",
      "needs norm_position='pre'",
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
    """Each layer's window: how many keys a query sees; 0 for all keys."""
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
