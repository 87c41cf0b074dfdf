"""Statistics of one head's logits, tile by tile, and their custom gradient.

Letters: N = B * T tokens, U columns of one tile.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jalign.logprobs import tiles
from jalign.logprobs.counted import on_counted
from jalign.logprobs.split import Tiling, first_id
from jalign.logprobs.tiles import Form
from jalign.types import Array


class Static(NamedTuple):
  """The static (hashable) arguments of a streamed computation.

  Attributes:
    form: scale and soft cap of the head.
    tiling: tiles and mesh axes.
    want: names of the statistics that are computed besides log-probs.
    columns: number of columns of the whole vocabulary.
  """

  form: Form
  tiling: Tiling
  want: tuple[str, ...]
  columns: int


def _local_forward(static, hidden, weight, targets, cool):
  """Scans this device's part of the vocabulary, then combines all parts."""
  shape, want = targets.shape, static.want
  hidden = hidden.reshape(-1, hidden.shape[-1])
  flat, cool = _rows(targets), _rows(cool)
  offset = first_id(static.tiling, weight)
  axis = static.tiling.vocab_axis

  def body(carry, start, parts):
    z, _ = tiles.tile_logits(static.form, hidden, parts[0])
    z = z if cool is None else z * cool
    top, total, sums = carry["top"], carry["total"], carry["sums"]
    highest = jnp.max(z, -1)
    new = jnp.maximum(top, highest)
    shrink = jnp.exp(top - new)
    e = jnp.exp(z - new[:, None])
    out = {"top": new, "total": total * shrink + jnp.sum(e, -1)}
    first = offset + start
    picked = tiles.picked_logits(z, flat[:, 0] - first)
    out["sums"] = {"picked": sums["picked"] + picked}
    if "mean_logit" in want:
      out["sums"]["plain"] = sums["plain"] + jnp.sum(z, -1)
    if "entropy" in want:
      out["mean"] = carry["mean"] * shrink + jnp.sum(e * z, -1)
    if "top" in want:
      ids = tiles.ids_of(first, z)
      least = _least_id(z == highest[:, None], ids)
      out["id"] = jnp.where(highest > top, least, carry["id"])
    return out

  zeros = jnp.zeros(flat.shape[0], jnp.float32)
  sums = {"picked": zeros}
  if "mean_logit" in want:
    sums["plain"] = zeros
  start = {"top": zeros - jnp.inf, "total": zeros, "sums": sums}
  if "entropy" in want:
    start["mean"] = zeros
  if "top" in want:
    start["id"] = jnp.zeros(flat.shape[0], jnp.int32)
  final = tiles.scan_tiles(static.tiling, body, start, (hidden,), (weight,))
  top, scaled = final["top"], {"total": final["total"]}
  if "entropy" in want:
    scaled["mean"] = final["mean"]
  sums, best = final["sums"], final.get("id")
  if axis is not None:
    top = jax.lax.pmax(final["top"], axis)
    shrink = jnp.exp(final["top"] - top)
    scaled = {name: x * shrink for name, x in scaled.items()}
    scaled, sums = jax.lax.psum((scaled, sums), axis)
    if best is not None:
      best = jnp.where(final["top"] == top, best, static.columns)
      best = jax.lax.pmin(best, axis)
  lse = top + jnp.log(scaled["total"])
  out = {"logps": sums["picked"] - lse, "lse": lse}
  if "mean_logit" in want:
    out["mean_logit"] = sums["plain"] / static.columns
  if "entropy" in want:
    out["entropy"] = lse - scaled["mean"] / scaled["total"]
  if best is not None:
    out |= {"top_logp": top - lse, "top_token": best}
  return {name: x.reshape(shape) for name, x in out.items()}


def _local_backward(static, hidden, weight, targets, cool, forward, given):
  """Gradients by the local hidden states and the local part of the weight."""
  rows = hidden.reshape(-1, hidden.shape[-1])
  flat, cool = _rows(targets), _rows(cool)
  lse, g_logp = _rows(forward["lse"]), _rows(given["logps"])
  # The derivatives by z: d logp = 1[target] - p,  d lse = p,
  # d mean_logit = 1 / V,  d entropy = -p (log p + entropy).
  factor = _rows(given["lse"]) - g_logp
  if "entropy" in static.want:
    g_entropy = _rows(given["entropy"])
    factor -= g_entropy * _rows(forward["entropy"])
  offset = first_id(static.tiling, weight)

  def body(sums, start, parts):
    z, slope = tiles.tile_logits(static.form, rows, parts[0])
    z = z if cool is None else z * cool
    gap = z - lse
    ids = tiles.ids_of(offset + start, z)
    if "entropy" in static.want:
      dz = jnp.exp(gap) * (factor - g_entropy * gap)
    else:
      dz = jnp.exp(gap) * factor
    dz += jnp.where(ids == flat, g_logp, 0.0)
    if "mean_logit" in static.want:
      dz += _rows(given["mean_logit"]) / static.columns
    if cool is not None:
      dz *= cool
    return tiles.add_gradients(
      static.tiling, sums, start, dz * slope, rows, parts[0], weight.dtype
    )

  sums = tiles.scan_tiles(
    static.tiling,
    body,
    tiles.no_gradients(rows, weight),
    (rows,),
    (weight,),
  )
  return tiles.total_gradients(static.tiling, sums, hidden, weight.dtype)


def _rows(x):
  return None if x is None else x.reshape(-1, 1)


def _least_id(chosen, ids):
  """The least chosen id of each row; XLA:CPU's argmax is 30 times as slow."""
  return jnp.min(jnp.where(chosen, ids, jnp.iinfo(jnp.int32).max), -1)


def _forward(static, mask, *arrays):
  local = functools.partial(_local_forward, static)
  return on_counted(static.tiling, local, "RWRR", "R", mask, *arrays)


# The custom gradient is outside the shard_map, so that JAX never differentiates
# through the shard_map.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def stream(
  static: Static,
  hidden: Array,
  weight: Array,
  targets: Array,
  cool: Array | None,
  mask: Array | None,
) -> dict[str, Array]:
  """Statistics of the tokens' distributions.

  All but `top_*` are differentiable with respect to hidden and weight.

  Args:
    static: what to compute, and how the vocabulary is cut.
    hidden: [B, T, D].
    weight: [V, D].
    targets: [B, T] int32.
    cool: [B, T] float32 inverse temperatures, or None.
    mask: [B, T] bool, the tokens that count, or None.

  Returns:
    [B, T] arrays: logps, lse and the wanted statistics; 0 where a token doesn't
    count.
  """
  return _forward(static, mask, hidden, weight, targets, cool)


def _stream_forward(static, hidden, weight, targets, cool, mask):
  out = _forward(static, mask, hidden, weight, targets, cool)
  forward = {k: out[k] for k in ("lse", "entropy") if k in out}
  return out, (mask, hidden, weight, targets, cool, forward)


def _stream_backward(static, residuals, given):
  given = {k: g for k, g in given.items() if not k.startswith("top_")}
  local = functools.partial(_local_backward, static)
  grads = on_counted(static.tiling, local, "RWRRRR", "RW", *residuals, given)
  return *grads, None, None, None


stream.defvjp(_stream_forward, _stream_backward)
