"""PAL's heads: raters' ideal points are mixtures of a few prototypes.

Each rater of the training data has weights; a new rater's weights are fitted by
`fit_rater`.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from jalign.errors import UserError
from jalign.models.rater_heads import (
  RaterHead,
  apply,
  check_sizes,
  dense,
  vpl,
)
from jalign.types import Array, Params

# Log weights per unit of a rater's parameters, so that an optimizer whose steps
# have one size for all parameters moves raters faster than prototypes.
_SPEED = 10.0


def pal_a(
  hidden_size: int,
  raters: int = 1,
  prototypes: int = 2,
  width: int = 64,
  squared: bool = True,
  hidden: int = 64,
) -> RaterHead:
  """PAL-A: raters' ideal points are mixtures of a few prototypes.

  score = -d(f(x, y), sum_k w_k p_k),  w on the simplex, one for each rater

  d is the squared Euclidean distance, or the distance. One prototype is a
  shared ideal point, the same for all raters. A rater who was never seen has
  the mean of all raters' weights.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469. The sizes are our choice.

  Args:
    hidden_size: D.
    raters: number of raters in the training data.
    prototypes: V, number of prototypes.
    width: size of the space of f and of the prototypes.
    squared: False for the distance itself, as in the public code.
    hidden: hidden units of f, a network of two layers; 0 for a linear map.

  Raises:
    UserError: a size is out of range.
  """
  check_sizes(raters=raters, prototypes=prototypes, width=width)
  _check_hidden(hidden)

  def init(key):
    first, second, third = jax.random.split(key, 3)
    return {
      "map": _map(first, hidden_size, hidden, width),
      "prototypes": jax.random.normal(second, (prototypes, width)),
      "raters": (0.1 / _SPEED) * jax.random.normal(third, (raters, prototypes)),
    }

  def score_as(params, features, vectors, prompts=None):
    del prompts
    chex.assert_rank([features, vectors], [3, 2])
    points = _mapped(params["map"], features)
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
  hidden: int = 64,
) -> RaterHead:
  """PAL-B: raters mix prototypes that depend on the prompt.

  score = s cos(f(x, y), sum_k w_k g_k(x)),  w on the simplex, one a rater

  The scale s is learned through its logarithm and is at most 100.

  Chen et al. 2024, "PAL: Pluralistic Alignment Framework for Learning from
  Heterogeneous Preferences", arXiv:2406.08469. Here the functions g_k are
  linear, and the sizes are our choice.

  Args:
    hidden_size: D.
    raters: number of raters in the training data.
    prototypes: V, number of functions g_k.
    width: size of the space of f and g.
    scale: s at the start, in (0, 100].
    hidden: hidden units of f, a network of two layers; 0 for a linear map.

  Raises:
    UserError: a setting is out of range.
  """
  check_sizes(raters=raters, prototypes=prototypes, width=width)
  _check_hidden(hidden)
  if not 0 < scale <= 100:
    raise UserError(f"{scale} must be in (0, 100].", where="head.scale")

  def init(key):
    keys = jax.random.split(key, 3)
    shape = (prototypes, hidden_size, width)
    return {
      "map": _map(keys[0], hidden_size, hidden, width),
      "prototypes": jax.random.normal(keys[1], shape) / hidden_size**0.5,
      "raters": (0.1 / _SPEED)
      * jax.random.normal(keys[2], (raters, prototypes)),
      "log_scale": jnp.log(jnp.float32(scale)),
    }

  def score_as(params, features, vectors, prompts):
    chex.assert_rank([features, vectors, prompts], [3, 2, 2])
    points = _mapped(params["map"], features)
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
  prior: float = 2.0,
  steps: int = 200,
  step_size: float = 0.3,
) -> Array:
  """Weights of a new rater from a few labelled pairs; all else is frozen.

  Minimises sum of -log sigmoid(s_w - s_l) + prior KL(w || mean weights) over
  the simplex, by exponentiated gradient steps from the mean of all raters'
  weights. With squared distances the problem is convex. The prior is our
  addition: without it, a few pairs send the weights to a corner.

  Args:
    head: a head with `weights`.
    params: the head's parameters.
    features: [N, 2, D] features of N pairs, the chosen response's first. With
      no pair the weights are the mean.
    prompts: [N, D] states of the prompts' last tokens, if the head reads them.
    prior: weight of the KL, >= 0: 0 for the likelihood alone.
    steps: number of steps.
    step_size: factor of the gradient of the objective over N + prior.

  Returns:
    [V] float32, on the simplex.

  Raises:
    UserError: the head has no weights.
  """
  if head.weights is None:
    raise UserError(
      "this head infers raters from pairs: there are no weights to fit.",
      where="head",
      remedy="Give the pairs to the head's `infer`.",
    )
  chex.assert_axis_dimension(features, 1, 2)
  start = head.weights(params, jnp.full(1, -1))[0]
  count = len(features)
  if not count:
    return start

  def objective(weights):
    vectors = jnp.broadcast_to(weights, (count, *weights.shape))
    scores = head.score_as(params, features, vectors, prompts)
    far = jnp.sum(weights * (jnp.log(weights) - jnp.log(start)))
    loss = jnp.sum(jax.nn.softplus(scores[:, 1] - scores[:, 0]))
    return (loss + prior * far) / (count + prior)

  def step(logits, _):
    weights = jnp.maximum(jax.nn.softmax(logits), 1e-12)
    return logits - step_size * jax.grad(objective)(weights), None

  logits, _ = jax.lax.scan(step, jnp.log(start), None, length=steps)
  return jax.nn.softmax(logits)


def _weights(params: Params, raters: Array) -> Array:
  """[B, V] weights of the raters; of a rater -1, the mean over all raters."""
  every = jax.nn.softmax(_SPEED * params["raters"])
  known = every[jnp.maximum(raters, 0)]
  return jnp.where((raters >= 0)[:, None], known, jnp.mean(every, 0))


def _map(key: Array, size: int, hidden: int, width: int) -> Params:
  """Layers of the map f; between them is a GELU."""
  first, second = jax.random.split(key)
  if not hidden:
    return {"last": dense(first, size, width)}
  return {
    "first": dense(first, size, hidden),
    "last": dense(second, hidden, width),
  }


def _mapped(layers: Params, features: Array) -> Array:
  x = features.astype(jnp.float32)
  if "first" in layers:
    x = jax.nn.gelu(apply(layers["first"], x))
  return apply(layers["last"], x)


def _check_hidden(hidden: int) -> None:
  if hidden:
    check_sizes(hidden=hidden)
