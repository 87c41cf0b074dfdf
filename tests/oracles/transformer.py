"""A float64 NumPy transformer with loops, written from the papers.

It is Llama 2 (arXiv:2307.09288) with grouped queries, rotary halves as in
GPT-NeoX and Hugging Face, and Qwen3's norms on queries and keys.
"""

import numpy as np


def _rms(x, scale, eps):
  return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + eps) * scale


def _rope(x, position, theta):
  width = len(x)
  out = np.empty_like(x)
  for i in range(width // 2):
    angle = position * theta ** (-2 * i / width)
    a, b = x[i], x[i + width // 2]
    out[i] = a * np.cos(angle) - b * np.sin(angle)
    out[i + width // 2] = b * np.cos(angle) + a * np.sin(angle)
  return out


def log_probs(params, tokens, c):
  """[T, V] log p(. | tokens[: t + 1]) of one sequence of token ids."""
  x = np.stack([np.asarray(params["embed"], np.float64)[t] for t in tokens])
  for layer in range(c.num_hidden_layers):
    p = {
      k: np.asarray(v[layer], np.float64) for k, v in params["blocks"].items()
    }
    h = _rms(x, p["attn_norm"], c.rms_norm_eps)
    attended = np.zeros((len(tokens), c.num_attention_heads, c.head_dim))
    group = c.num_attention_heads // c.num_key_value_heads
    for head in range(c.num_attention_heads):
      kv = head // group
      q = h @ p["wq"][:, head] + p["bq"][head]
      k = h @ p["wk"][:, kv] + p["bk"][kv]
      v = h @ p["wv"][:, kv] + p["bv"][kv]
      q = _rms(q, p["q_norm"], c.rms_norm_eps)
      k = _rms(k, p["k_norm"], c.rms_norm_eps)
      q = np.stack([_rope(row, t, c.rope_theta) for t, row in enumerate(q)])
      k = np.stack([_rope(row, t, c.rope_theta) for t, row in enumerate(k)])
      for t in range(len(tokens)):
        score = k[: t + 1] @ q[t] / np.sqrt(c.head_dim)
        weight = np.exp(score - score.max())
        attended[t, head] = (weight / weight.sum()) @ v[: t + 1]
    x = x + np.einsum("THE,HED->TD", attended, p["wo"])
    h = _rms(x, p["mlp_norm"], c.rms_norm_eps)
    gate = h @ p["gate"]
    x = x + (gate / (1 + np.exp(-gate)) * (h @ p["up"])) @ p["down"]
  h = _rms(x, np.asarray(params["norm"], np.float64), c.rms_norm_eps)
  name = "embed" if c.tie_word_embeddings else "unembed"
  z = h @ np.asarray(params[name], np.float64).T
  z = z - z.max(-1, keepdims=True)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))
