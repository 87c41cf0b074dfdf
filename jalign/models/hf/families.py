"""The table of model families: how each family differs from Llama."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jalign.models.config import ModelConfig


class Family(NamedTuple):
  """How one family differs from Llama.

  Attributes:
    architecture: name of the class in transformers that opens an export.
    read: more fields of ModelConfig that the family's config.json has.
    implied: takes a config.json and returns fields of ModelConfig that the
      family implies without a key.
    fits: whether a ModelConfig that names no family may be of this family.
    renamed: name of a field -> its key in config.json, where they differ.
    silent: keys that only concern training, dropout or task heads.
    absent: keys that the family's config.json doesn't have.
  """

  architecture: str
  read: tuple[str, ...] = ()
  implied: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda config: {}
  fits: Callable[[ModelConfig], bool] = lambda c: False
  renamed: Mapping[str, str] = {}
  silent: tuple[str, ...] = ()
  absent: tuple[str, ...] = ()

  @property
  def scorer(self) -> str:
    """Name of the class in transformers for a reward model of the family."""
    for ending in ("ForCausalLM", "LMHeadModel"):
      name = self.architecture.removesuffix(ending)
      if name != self.architecture:
        name = "Gemma3Text" if name == "Gemma3" else name
        return f"{name}ForSequenceClassification"
    raise ValueError(self.architecture)


def _gemma(config):
  width = config["hidden_size"] ** 0.5
  return {"norm_offset": True, "embedding_scale": width}


def _later_gemma(**more):
  return lambda config: _gemma(config) | {"norm_position": "both"} | more


_BIAS = ("attention_bias",)
_GEMMA = (
  "attention_bias",
  "query_pre_attn_scalar",
  "attn_logit_softcapping",
  "final_logit_softcapping",
)

_GEMMA_ACT = {"hidden_act": "hidden_activation"}


def _gpt2(config):
  width = config["hidden_size"]
  return {
    "norm_type": "layer",
    "mlp_gated": False,
    "mlp_bias": True,
    "attention_bias": True,
    "attention_out_bias": True,
    "num_key_value_heads": config["num_attention_heads"],
    "intermediate_size": config.get("intermediate_size") or 4 * width,
  }


# A config that names no family is of the first family here that fits.
FAMILIES: dict[str, Family] = {
  "gpt2": Family(
    "GPT2LMHeadModel",
    ("learned_positions",),
    _gpt2,
    lambda c: c.learned_positions > 0,
    {
      "hidden_size": "n_embd",
      "intermediate_size": "n_inner",
      "num_hidden_layers": "n_layer",
      "num_attention_heads": "n_head",
      "learned_positions": "n_positions",
      "rms_norm_eps": "layer_norm_epsilon",
      "hidden_act": "activation_function",
    },
    (
      "attn_pdrop",
      "embd_pdrop",
      "n_ctx",
      "resid_pdrop",
      "summary_activation",
      "summary_first_dropout",
      "summary_proj_to_labels",
      "summary_type",
      "summary_use_proj",
      "task_specific_params",
    ),
    ("head_dim", "num_key_value_heads", "rope_parameters", "sliding_window"),
  ),
  "qwen3_moe": Family(
    "Qwen3MoeForCausalLM",
    ("attention_bias", "num_experts", "num_experts_per_tok", "norm_topk_prob"),
    lambda config: {"qk_norm": True},
    lambda c: c.num_experts > 0 and c.qk_norm,
    {"intermediate_size": "moe_intermediate_size"},
    ("router_aux_loss_coef",),
  ),
  "mixtral": Family(
    "MixtralForCausalLM",
    ("num_experts", "num_experts_per_tok"),
    fits=lambda c: c.num_experts > 0,
    renamed={"num_experts": "num_local_experts"},
    silent=("router_aux_loss_coef",),
  ),
  "gemma3_text": Family(
    "Gemma3ForCausalLM",
    _GEMMA,
    _later_gemma(qk_norm=True),
    lambda c: c.norm_position == "both" and c.qk_norm,
    _GEMMA_ACT,
  ),
  "gemma2": Family(
    "Gemma2ForCausalLM",
    _GEMMA,
    _later_gemma(),
    lambda c: c.norm_position == "both",
    _GEMMA_ACT,
  ),
  "gemma": Family("GemmaForCausalLM", _BIAS, _gemma, lambda c: c.norm_offset),
  "olmo2": Family(
    "Olmo2ForCausalLM",
    _BIAS,
    lambda config: {"norm_position": "post", "qk_norm_flat": True},
    lambda c: c.norm_position == "post",
  ),
  "smollm3": Family(
    "SmolLM3ForCausalLM",
    ("attention_bias", "mlp_bias", "no_rope_layers"),
    fits=lambda c: 0 in c.no_rope_layers,
  ),
  "qwen3": Family(
    "Qwen3ForCausalLM",
    _BIAS,
    lambda config: {"qk_norm": True},
    lambda c: c.qk_norm,
  ),
  "qwen2": Family(
    "Qwen2ForCausalLM",
    (),
    lambda config: {"attention_bias": True},
    lambda c: c.attention_bias and not c.attention_out_bias,
  ),
  "mistral": Family("MistralForCausalLM", fits=lambda c: all(c.windows)),
  "phi3": Family("Phi3ForCausalLM"),
  "llama": Family(
    "LlamaForCausalLM",
    ("attention_bias", "mlp_bias"),
    fits=lambda c: True,
  ),
}
