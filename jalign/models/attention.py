"""Attention: the reference implementation, and the choice of a kernel.

The choice depends on the platform and the use. R is the number of query heads
that share a key/value head, H = G * R.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jalign.errors import UserError
from jalign.models import kernels, query_blocks
from jalign.models.config import ModelConfig
from jalign.sharding import axis_size, mesh_axes, platform
from jalign.types import Array

NEG_INF = -1e30  # finite, so that a fully masked row gives a mean and no NaN

# (name in the config, platform) -> implementations in order of preference, for
# training, for a chunk of several tokens and for a step of one token. These
# choices aren't measured yet on GPUs and TPUs: kernels are used for what their
# authors intend, and steps use XLA until a benchmark says otherwise.
_ANY = ("cudnn", "xla")
_CHOICES = {
  ("auto", "cpu"): (("xla",),) * 3,
  ("auto", "gpu"): (_ANY, _ANY, ("xla",)),
  ("auto", "tpu"): (("splash", "xla"), ("splash", "xla"), ("xla",)),
  ("cudnn", "gpu"): (("cudnn",),) * 3,
  ("pallas", "gpu"): (_ANY, _ANY, ("split_k",)),
  ("pallas", "tpu"): (("splash",), ("splash",), ("splash_step",)),
}
_CAPPED = "scores are capped"
KINDS = ("training", "chunk", "step")


def choose(
  c: ModelConfig,
  kind: str,
  where: str,
  unfit: Callable[[str], str] = lambda name: "",
) -> str:
  """Chooses the implementation for a kind of attention on a platform.

  Args:
    c: the model's config, whose `attention` names a family of implementations.
    kind: "training", "chunk" (several tokens are appended to a cache) or "step"
      (one token is).
    where: the platform, as `platform` returns it.
    unfit: takes an implementation's name and returns why that implementation
      can't take the given arrays, or "" if it can.

  Returns:
    "xla", "cudnn", "split_k", "splash" or "splash_step".

  Raises:
    UserError: the config asks for an implementation that the platform or the
      arrays rule out.
  """
  if c.attention == "xla":
    return "xla"
  key = (c.attention, where)
  if key not in _CHOICES and c.attention == "auto":
    return "xla"
  remedy = "Choose 'auto' or 'xla'."
  if key not in _CHOICES:
    raise UserError(
      f"{c.attention!r} does not run on {where}.",
      where="model.attention",
      remedy=remedy,
    )
  names = _CHOICES[key][KINDS.index(kind)]
  for name in names:
    if name == "xla" or not unfit(name):
      return name
  raise UserError(
    f"{c.attention!r} cannot do this {kind}: {unfit(names[0])}.",
    where="model.attention",
    remedy=remedy,
  )


def over_sequence(
  q: Array,
  k: Array,
  v: Array,
  mask: Array,
  c: ModelConfig,
  *,
  causal: bool = False,
  segment_ids: Array | None = None,
) -> Array:
  """Attention of whole sequences to themselves, with gradients.

  Args:
    q: [B, T, H, E] queries.
    k: [B, G, T, E] keys.
    v: [B, G, T, E] values.
    mask: [B, T, T] bool, True where a query may see a key.
    c: the model's config.
    causal: whether the mask is just causal: a token sees the tokens up to
      itself, of its own segment where ids are given. Kernels then read no mask.
    segment_ids: [B, T] int32; ignored unless `causal`.

  Returns:
    [B, T, H, E] in q's dtype.

  Raises:
    UserError: see `choose`.
  """
  plain = causal and segment_ids is None

  def unfit(name):
    if c.attn_logit_softcapping:
      return _CAPPED
    if name == "splash":
      return "" if causal else "the mask is not just causal in segments"
    # cuDNN's gradient reads the bias two entries at a time.
    odd = not plain and q.shape[1] % 2
    return "the length is odd" if odd else _unfit(name, q, k)

  name = choose(c, "training", platform(), unfit)
  if name == "splash":
    ids = () if segment_ids is None else (segment_ids,)
    return mapped(kernels.splash, c, q, k, v, *ids)
  if name == "cudnn":
    if plain:
      return mapped(functools.partial(kernels.cudnn, causal=True), c, q, k, v)
    return mapped(kernels.cudnn, c, q, k, v, mask)
  attend = functools.partial(reference, soft_cap=c.attn_logit_softcapping)
  if platform() == "cpu" or not query_blocks.divide(q.shape[1]):
    return attend(q, k, v, mask)
  return query_blocks.attend(attend, q, k, v, mask)


def over_cache(
  q: Array,
  k: Array,
  v: Array,
  mask: Array,
  positions: Array,
  c: ModelConfig,
  scales: tuple[Array, ...] = (),
) -> Array:
  """Attention of the last C tokens to a cache that already holds them.

  Args:
    q: [B, C, H, E] queries.
    k: [B, G, S, E] keys, or [B, G, E, S] if `slots_last`; int8 with `scales`.
    v: [B, G, S, E] values; int8 with `scales`.
    mask: [B, C, S] bool, True on slots up to a query's position and within its
      window.
    positions: [B, C] int32, consecutive in each row.
    c: the model's config.
    scales: scales of int8 keys and of int8 values, each [B, G, S]; () for other
      dtypes.

  Returns:
    [B, C, H, E] in q's dtype.

  Raises:
    UserError: see `choose`.
  """
  chunk, slots = q.shape[1], v.shape[2]
  kind = "step" if chunk == 1 else "chunk"

  def unfit(name):
    if c.attn_logit_softcapping:
      return _CAPPED
    return "the layers have windows" if any(c.windows) else _unfit(name, q, v)

  name = choose(c, kind, platform(), unfit)
  if name == "xla":
    return reference(
      q,
      k,
      v,
      mask,
      scales,
      slots_last=slots_last(c),
      soft_cap=c.attn_logit_softcapping,
    )
  lengths = jnp.minimum(positions[:, -1] + 1, slots)
  if kind == "step":
    kernel = {
      "cudnn": lambda q, k, v, n: kernels.cudnn(q, k, v, lengths=n),
      "split_k": kernels.split_k,
      "splash_step": kernels.splash_step,
    }[name]
    return mapped(kernel, c, q, k, v, lengths)

  # Where this is the first chunk of every row, the chunk is a whole sequence:
  # no mask is in memory, and no empty slot is read.
  def first():
    own = k[:, :, :chunk], v[:, :, :chunk]
    if name == "splash":
      return mapped(kernels.splash, c, q, *own)
    return mapped(functools.partial(kernels.cudnn, causal=True), c, q, *own)

  def later():
    if name == "splash":  # the kernel needs its mask when it is compiled
      return reference(q, k, v, mask)
    return mapped(kernels.cudnn, c, q, k, v, mask, lengths)

  if chunk > slots:
    return later()
  return jax.lax.cond(jnp.all(positions[:, 0] == 0), first, later)


def slots_last(c: ModelConfig) -> bool:
  """Whether keys are cached as [B, G, E, S] instead of [B, G, S, E].

  In float32 and with the few queries of a step, XLA:CPU multiplies by keys of
  this layout four times as fast. Kernels need [B, G, S, E].
  """
  return platform() == "cpu" and c.attention in ("auto", "xla")


def slots(size: int, c: ModelConfig) -> int:
  """Number of slots of a cache for `size` tokens.

  It is rounded up to whole blocks for step kernels.
  """
  return size + (-size % kernels.BLOCK if c.attention == "pallas" else 0)


def reference(
  q: Array,
  k: Array,
  v: Array,
  mask: Array,
  scales: tuple[Array, ...] = (),
  *,
  slots_last: bool = False,
  soft_cap: float = 0.0,
) -> Array:
  """Grouped-query attention by two matrix products.

  Heads come before slots in keys and values, so that each product has exactly
  two batch axes in front. XLA:CPU then takes 0.4 of the time of an einsum over
  [B, S, G, E] (at 1,024 slots), and has a fast product for bfloat16.

  Args:
    q: [B, T, H, E] queries.
    k: [B, G, S, E] keys.
    v: [B, G, S, E] values.
    mask: [B, T, S] bool, True where a query may see a key.
    scales: scales of int8 keys and of int8 values, each [B, G, S]. They
      multiply scores and weights, so that no key or value has to be scaled.
    slots_last: whether keys are [B, G, E, S].
    soft_cap: bound on scores by tanh; 0 for no bound.

  Returns:
    [B, T, H, E] in q's dtype. Scores and softmax are computed in float32,
    products in the dtype of the keys (or of q where keys are int8).
  """
  batch, length, heads, width = q.shape
  groups = k.shape[1]
  ratio = heads // groups
  dtype = q.dtype if scales else k.dtype

  def product(a, b, axis):
    return jax.lax.dot_general(
      a.astype(dtype),
      b.astype(dtype),
      (((3,), (axis,)), ((0, 1), (0, 1))),
      preferred_element_type=jnp.float32,
    )

  rows = q.reshape(batch, length, groups, ratio, width)
  rows = rows.transpose(0, 2, 3, 1, 4)
  rows = rows.reshape(batch, groups, ratio * length, width)
  scores = product(rows, k, 2 if slots_last else 3) * width**-0.5
  if scales:
    scores *= scales[0][:, :, None]
  if soft_cap:
    scores = soft_cap * jnp.tanh(scores / soft_cap)
  scores = scores.reshape(batch, groups, ratio, length, -1)
  scores = jnp.where(mask[:, None, None], scores, NEG_INF)
  weights = jax.nn.softmax(scores, -1)
  weights = weights.reshape(batch, groups, ratio * length, -1)
  if scales:
    weights *= scales[1][:, :, None]
  out = product(weights, v, 2).astype(q.dtype)
  out = out.reshape(batch, groups, ratio, length, width)
  return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


def mapped(
  kernel, c: ModelConfig, q: Array, k: Array, v: Array, *others: Array
):
  """Runs `kernel(q, k, v, *others)` on each device's own rows and heads.

  A kernel is opaque to the partitioner, which would otherwise gather its
  operands. `others` are arrays whose first axis is the rows. Axes whose size
  the mesh doesn't divide stay whole.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return kernel(q, k, v, *others)
  batch = mesh_axes(("batch",), c.rules)[0]
  heads = mesh_axes(("kv_heads",), c.rules)[0]
  batch = None if q.shape[0] % axis_size(mesh, batch) else batch
  heads = None if k.shape[1] % axis_size(mesh, heads) else heads
  queries = PartitionSpec(batch, None, heads)
  keys = PartitionSpec(batch, heads)
  return jax.shard_map(
    kernel,
    in_specs=(queries, keys, keys, *[PartitionSpec(batch)] * len(others)),
    out_specs=queries,
    check_vma=False,  # kernels don't declare the axes their results vary over
  )(q, k, v, *others)


def _unfit(name: str, q: Array, k: Array) -> str:
  """Why a kernel can't take these arrays; "" if it can."""
  width, slots_ = q.shape[-1], k.shape[2]
  if k.dtype != q.dtype:
    return f"keys are {k.dtype} and queries {q.dtype}"
  if name == "cudnn":
    if q.dtype not in (jnp.bfloat16, jnp.float16):
      return f"cuDNN takes bfloat16 and float16, not {q.dtype}"
    if width % 8 or width > 128:
      return f"heads of width {width} are not a multiple of 8 up to 128"
  if name == "split_k" and (width & (width - 1) or math.gcd(slots_, 128) < 16):
    return f"the kernel has no blocks for width {width} and {slots_} slots"
  if name == "splash_step" and slots_ % kernels.BLOCK:
    return f"{slots_} slots are not a multiple of {kernels.BLOCK}"
  return ""
