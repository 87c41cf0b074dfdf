"""One layer of the transformer, what goes in before and comes out behind."""

from jalign.models import layers
from jalign.models.config import ModelConfig
from jalign.sharding import BATCH_AXES, constrain, mesh_axes
from jalign.types import Array, Head, Params


def block(p, x, positions, attend, c: ModelConfig):
  """One layer; `attend` maps (q, k, v) to ([B, T, H, E], its own carry)."""
  h = layers.rms_norm(x, p["attn_norm"], c.rms_norm_eps)
  q = layers.project(h, p["wq"])
  k = layers.project(h, p["wk"])
  v = layers.project(h, p["wv"])
  if c.attention_bias:
    q += p["bq"].astype(q.dtype)
    k += p["bk"].astype(k.dtype)
    v += p["bv"].astype(v.dtype)
  if c.qk_norm:
    q = layers.rms_norm(q, p["q_norm"], c.rms_norm_eps)
    k = layers.rms_norm(k, p["k_norm"], c.rms_norm_eps)
  q = layers.rope(q, positions, c.rope_theta)
  k = layers.rope(k, positions, c.rope_theta)
  attended, carry = attend(q, k, v)
  x += layers.project(attended, p["wo"], axes=2)
  h = layers.rms_norm(x, p["mlp_norm"], c.rms_norm_eps)
  x += layers.gated_mlp(h, p["gate"], p["up"], p["down"])
  return constrain(x, ("batch", None, None), c.rules), carry


def embed(params: Params, tokens: Array, c: ModelConfig) -> Array:
  """Embeddings [B, T, D] of tokens [B, T]."""
  # Gathered over fsdp first: a gather from a table split on both axes makes
  # the partitioner rematerialise it.
  table = constrain(params["embed"], ("vocab", None), c.rules)
  x = layers.embed(table, tokens, c.dtype)
  return constrain(x, ("batch", None, None), c.rules)


def head(params: Params, *, c: ModelConfig) -> Head:
  """The output layer, as log-probs take it."""
  name = "embed" if c.tie_word_embeddings else "unembed"
  return Head(
    weight=params[name],
    vocab_axis=mesh_axes(("vocab",), c.rules)[0],
    batch_axes=BATCH_AXES,
  )
