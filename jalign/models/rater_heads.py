"""Heads that score a response as one rater would, not as raters do on average.

VPL infers a rater from pairs that the rater has labelled, and so serves raters
never seen before. `ideal_points` has the heads of PAL.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.types import Array, Params


class Latent(NamedTuple):
  """A normal distribution of vectors that describe a rater.

  Attributes:
    mean: [B, Z].
    log_variance: [B, Z], of independent coordinates.
  """

  mean: Array
  log_variance: Array


class RaterHead(NamedTuple):
  """A head as a record of functions; B raters are asked at once.

  A rater is a vector of V numbers. Either `infer` and `draw` find the vector
  from labelled pairs, or `weights` finds it by the rater's number.

  Attributes:
    init: `key -> params`.
    score_as: `(params, features [B, K, D], vectors [B, V], prompts [B, D]) ->
      [B, K]` float32, a number for each of K responses to a prompt. Features
      are states of responses' last tokens, `prompts` states of the prompts'.
    infer: `(params, chosen [B, C, D], rejected [B, C, D], valid [B, C] bool)
      -> Latent`, from the features of at most C pairs; or None.
    draw: `(Latent, seeds [B] uint32 or None) -> [B, V]`; without seeds, the
      vector of the mean.
    weights: `(params, raters [B] int32) -> [B, V]`; -1 is an unseen rater; or
      None.
    reads_prompts: whether `score_as` reads `prompts`, which may be None
      otherwise.
  """

  init: Callable[[Array], Params]
  score_as: Callable[..., Array]
  infer: Any = None
  draw: Any = None
  weights: Any = None
  reads_prompts: bool = False


def vpl(
  hidden_size: int,
  latent: int = 16,
  width: int = 64,
  pooling: str = "attention",
  clamp: float = 1.0,
  scaled: str = "never",
) -> RaterHead:
  """Variational preference learning: a rater is inferred from labelled pairs.

  q(v | pairs) = N(m, diag exp(l)),  v = m + exp(l / 2) e,  e ~ N(0, 1)

  A network encodes the features of each pair, the chosen response's first, and
  another reads the pooled codes. A third network scores a response from its
  features and v. Without pairs, q is exactly the prior N(0, 1), which is our
  choice. Scores start at zero.

  The public code scales v to the length sqrt(Z) in training only, so that it
  is evaluated on vectors of lengths never trained on. Here training and
  evaluation agree by default.

  Poddar et al. 2024, "Personalizing Reinforcement Learning from Human Feedback
  with Variational Preference Learning", arXiv:2408.10075. The sizes of the
  networks are our choice.

  Args:
    hidden_size: D.
    latent: Z = V, coordinates of a rater.
    width: hidden units of the three networks.
    pooling: "attention", with one learned query, or "mean".
    clamp: m and l are clamped to [-clamp, clamp], as in the public code; 0 for
      no clamping.
    scaled: "never"; "always"; or "training", as in the public code.

  Raises:
    UserError: a setting is out of range.
  """
  check_sizes(latent=latent, width=width)
  _check_choice("pooling", pooling, ("attention", "mean"))
  _check_choice("scaled", scaled, ("never", "always", "training"))
  if not clamp >= 0:
    raise UserError(f"{clamp} must be >= 0.", where="head.clamp")

  def init(key):
    keys = jax.random.split(key, 6)
    return {
      "pair": dense(keys[0], 2 * hidden_size, width),
      "query": jax.random.normal(keys[1], (width,)) / width**0.5,
      "mean": dense(keys[2], width, latent),
      "log_variance": dense(keys[3], width, latent),
      "features": dense(keys[4], hidden_size, width),
      "rater": jax.random.normal(keys[5], (latent, width)) / latent**0.5,
      "score": jnp.zeros(width),
    }

  def infer(params, chosen, rejected, valid):
    chex.assert_equal_shape([chosen, rejected])
    chex.assert_shape(valid, chosen.shape[:2])
    pairs = jnp.concatenate([chosen, rejected], -1).astype(jnp.float32)
    codes = jax.nn.gelu(apply(params["pair"], pairs))
    logits = codes @ params["query"] if pooling == "attention" else 0.0
    logits = jnp.where(valid, logits, -jnp.inf)
    some = jnp.any(valid, 1)
    share = jnp.where(some[:, None], logits, 0.0)
    share = jnp.where(valid, jax.nn.softmax(share, 1), 0.0)
    pooled = jnp.einsum("bc,bcw->bw", share, codes)
    bound = lambda x: jnp.clip(x, -clamp, clamp) if clamp else x
    known = lambda name: jnp.where(
      some[:, None], bound(apply(params[name], pooled)), 0.0
    )
    return Latent(known("mean"), known("log_variance"))

  def draw(inferred, seeds):
    vectors = inferred.mean
    if seeds is not None:
      noise = jax.vmap(
        lambda s: jax.random.normal(jax.random.key(s), (latent,))
      )
      vectors += jnp.exp(inferred.log_variance / 2) * noise(seeds)
    if scaled == "always" or (scaled == "training" and seeds is not None):
      square = jnp.sum(vectors**2, -1, keepdims=True)
      vectors *= jnp.sqrt(latent / jnp.maximum(square, 1e-12))
    return vectors

  def score_as(params, features, vectors, prompts=None):
    del prompts
    chex.assert_rank([features, vectors], [3, 2])
    hidden = apply(params["features"], features.astype(jnp.float32))
    hidden += (vectors @ params["rater"])[:, None]
    return jax.nn.gelu(hidden) @ params["score"]

  return RaterHead(init, score_as, infer=infer, draw=draw)


def dense(key: Array, size: int, width: int) -> Params:
  weight = jax.random.normal(key, (size, width)) / size**0.5
  return {"weight": weight, "bias": jnp.zeros(width)}


def apply(params: Params, x: Array) -> Array:
  return x @ params["weight"] + params["bias"]


def check_sizes(**sizes: int) -> None:
  for name, size in sizes.items():
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
      raise UserError(
        f"{size!r} is not a whole number >= 1.", where=f"head.{name}"
      )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise UserError(
      f"{value!r} is not one of {', '.join(known)}.", where=f"head.{name}"
    )
