"""Heads that score a response as one rater would, not as raters do on average.

VPL infers a rater from pairs that the rater has labelled, and so serves raters
never seen before. PAL keeps weights for every rater of the training data; a new
rater's weights are fitted by `fit_rater`.
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
  _check_sizes(latent=latent, width=width)
  _check_choice("pooling", pooling, ("attention", "mean"))
  _check_choice("scaled", scaled, ("never", "always", "training"))
  if not clamp >= 0:
    raise UserError(f"{clamp} must be >= 0.", where="head.clamp")

  def init(key):
    keys = jax.random.split(key, 6)
    return {
      "pair": _dense(keys[0], 2 * hidden_size, width),
      "query": jax.random.normal(keys[1], (width,)) / width**0.5,
      "mean": _dense(keys[2], width, latent),
      "log_variance": _dense(keys[3], width, latent),
      "features": _dense(keys[4], hidden_size, width),
      "rater": jax.random.normal(keys[5], (latent, width)) / latent**0.5,
      "score": jnp.zeros(width),
    }

  def infer(params, chosen, rejected, valid):
    chex.assert_equal_shape([chosen, rejected])
    chex.assert_shape(valid, chosen.shape[:2])
    pairs = jnp.concatenate([chosen, rejected], -1).astype(jnp.float32)
    codes = jax.nn.gelu(_apply(params["pair"], pairs))
    logits = codes @ params["query"] if pooling == "attention" else 0.0
    logits = jnp.where(valid, logits, -jnp.inf)
    some = jnp.any(valid, 1)
    share = jnp.where(some[:, None], logits, 0.0)
    share = jnp.where(valid, jax.nn.softmax(share, 1), 0.0)
    pooled = jnp.einsum("bc,bcw->bw", share, codes)
    bound = lambda x: jnp.clip(x, -clamp, clamp) if clamp else x
    known = lambda name: jnp.where(
      some[:, None], bound(_apply(params[name], pooled)), 0.0
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
    hidden = _apply(params["features"], features.astype(jnp.float32))
    hidden += (vectors @ params["rater"])[:, None]
    return jax.nn.gelu(hidden) @ params["score"]

  return RaterHead(init, score_as, infer=infer, draw=draw)


def pal_a(
  hidden_size: int,
  raters: int = 1,
  prototypes: int = 2,
  width: int = 64,
  squared: bool = True,
) -> RaterHead:
  """PAL-A: raters' ideal points are mixtures of a few prototypes.

  score = -d(f(x, y), sum_k w_k p_k),  w on the simplex, one for each rater

  d is the squared Euclidean distance, or the distance. One prototype is a
  shared ideal point, the same for all raters. A rater who was never seen has
  the mean of all raters' weights.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469. The map f is linear here.

  Args:
    hidden_size: D.
    raters: number of raters in the training data.
    prototypes: V, number of prototypes.
    width: size of the space of f and of the prototypes.
    squared: False for the distance itself, as in the public code.

  Raises:
    UserError: a size is below 1.
  """
  _check_sizes(raters=raters, prototypes=prototypes, width=width)

  def init(key):
    first, second, third = jax.random.split(key, 3)
    return {
      "map": _dense(first, hidden_size, width),
      "prototypes": jax.random.normal(second, (prototypes, width)),
      "raters": 0.1 * jax.random.normal(third, (raters, prototypes)),
    }

  def score_as(params, features, vectors, prompts=None):
    del prompts
    chex.assert_rank([features, vectors], [3, 2])
    points = _apply(params["map"], features.astype(jnp.float32))
    gap = points - (vectors @ params["prototypes"])[:, None]
    square = jnp.sum(gap**2, -1)
    # The root's gradient is infinite at 0.
    return -square if squared else -jnp.sqrt(jnp.maximum(square, 1e-12))

  return RaterHead(init, score_as, weights=_weights)


def pal_b(
  hidden_size: int,
  raters: int = 1,
  prototypes: int = 2,
  width: int = 64,
  scale: float = 1 / 0.07,
) -> RaterHead:
  """PAL-B: raters mix prototypes that depend on the prompt.

  score = s cos(f(x, y), sum_k w_k g_k(x)),  w on the simplex, one a rater

  The scale s is learned through its logarithm and is at most 100.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469. The maps f and g_k are linear
  here.

  Args:
    hidden_size: D.
    raters: number of raters in the training data.
    prototypes: V, number of functions g_k.
    width: size of the space of f and g.
    scale: s at the start, in (0, 100].

  Raises:
    UserError: a setting is out of range.
  """
  _check_sizes(raters=raters, prototypes=prototypes, width=width)
  if not 0 < scale <= 100:
    raise UserError(f"{scale} must be in (0, 100].", where="head.scale")

  def init(key):
    keys = jax.random.split(key, 3)
    shape = (prototypes, hidden_size, width)
    return {
      "map": _dense(keys[0], hidden_size, width),
      "prototypes": jax.random.normal(keys[1], shape) / hidden_size**0.5,
      "raters": 0.1 * jax.random.normal(keys[2], (raters, prototypes)),
      "log_scale": jnp.log(jnp.float32(scale)),
    }

  def score_as(params, features, vectors, prompts):
    chex.assert_rank([features, vectors, prompts], [3, 2, 2])
    points = _apply(params["map"], features.astype(jnp.float32))
    ideals = jnp.einsum(
      "bd,kdw,bk->bw",
      prompts.astype(jnp.float32),
      params["prototypes"],
      vectors,
    )
    size = lambda x: jnp.sqrt(jnp.maximum(jnp.sum(x**2, -1), 1e-12))
    inner = jnp.einsum("bkw,bw->bk", points, ideals)
    cosine = inner / (size(points) * size(ideals)[:, None])
    return jnp.minimum(jnp.exp(params["log_scale"]), 100.0) * cosine

  return RaterHead(init, score_as, weights=_weights, reads_prompts=True)


RATER_HEADS: dict[str, Callable[..., RaterHead]] = {
  "vpl": vpl,
  "pal_a": pal_a,
  "pal_b": pal_b,
}


def fit_rater(
  head: RaterHead,
  params: Params,
  features: Array,
  prompts: Array | None = None,
  *,
  steps: int = 200,
  step_size: float = 1.0,
) -> Array:
  """Weights of a new rater from a few labelled pairs; all else is frozen.

  Minimises the mean of -log sigmoid(score of the chosen - score of the
  rejected) over the simplex by exponentiated gradient steps, from the mean of
  all raters' weights. With squared distances the problem is convex.

  Args:
    head: a head with `weights`.
    params: the head's parameters.
    features: [N, 2, D] features of N pairs, the chosen response's first. With
      no pair the weights are the mean.
    prompts: [N, D] states of the prompts' last tokens, if the head reads them.
    steps: number of steps.
    step_size: factor of the gradient in a step.

  Returns:
    [V] float32, on the simplex.

  Raises:
    UserError: the head has no weights.
  """
  if head.weights is None:
    raise UserError(
      "this head infers raters from pairs: there are no weights to fit.",
      remedy="Give the pairs to the head's `infer`.",
    )
  start = head.weights(params, jnp.full(1, -1))[0]
  count = len(features)
  if not count:
    return start

  def loss(weights):
    vectors = jnp.broadcast_to(weights, (count, *weights.shape))
    scores = head.score_as(params, features, vectors, prompts)
    return jnp.mean(jax.nn.softplus(scores[:, 1] - scores[:, 0]))

  def step(logits, _):
    weights = jax.nn.softmax(logits)
    return logits - step_size * jax.grad(loss)(weights), None

  logits, _ = jax.lax.scan(step, jnp.log(start), None, length=steps)
  return jax.nn.softmax(logits)


def _weights(params: Params, raters: Array) -> Array:
  """[B, V] weights of the raters; of a rater -1, the mean over all raters."""
  every = jax.nn.softmax(params["raters"])
  known = every[jnp.maximum(raters, 0)]
  return jnp.where((raters >= 0)[:, None], known, jnp.mean(every, 0))


def _dense(key: Array, size: int, width: int) -> Params:
  weight = jax.random.normal(key, (size, width)) / size**0.5
  return {"weight": weight, "bias": jnp.zeros(width)}


def _apply(params: Params, x: Array) -> Array:
  return x @ params["weight"] + params["bias"]


def _check_sizes(**sizes: int) -> None:
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
