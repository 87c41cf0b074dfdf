"""How the next token is chosen: a pair of pure functions made from settings."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from jalign.decode import filters
from jalign.decode.categorical import DrawnTokens, greedy, inverse_cdf
from jalign.errors import UserError
from jalign.types import NOT_SPLIT, Array


class Sampler(NamedTuple):
  """How the next token is chosen from logits.

  `seen` [B, V] bool marks the tokens of each row's prompt and response so far;
  it is None unless `reads_seen`.

  Attributes:
    filter: `(logits [B, V], seen=None) -> [B, V]`, logits whose softmax is the
      distribution that tokens are drawn from; -inf where truncated.
    draw: `(logits [B, V], uniforms [B], seen=None, layout=NOT_SPLIT) ->
      DrawnTokens`; takes unfiltered logits.
    reads_seen: whether the functions need `seen`.
    plain: whether tokens are drawn from softmax(logits) itself.
  """

  filter: Callable[..., Array]
  draw: Callable[..., DrawnTokens]
  reads_seen: bool = False
  plain: bool = False


def sampler(
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  min_p: float = 0.0,
  repetition_penalty: float = 1.0,
  bias: Mapping[int, float] | None = None,
  forbidden: Iterable[int] = (),
) -> Sampler:
  """A sampler: bias, repetition penalty, temperature, top-k, top-p, min-p.

  These settings apply in this order. The filtered distributions are those of
  the `transformers` processors of the same names, except that all values tied
  with a threshold are kept.

  Args:
    temperature: divides the logits, >= 0; 0 is greedy.
    top_k: keeps the k most probable tokens; 0 keeps all.
    top_p: keeps the fewest most probable tokens whose total probability reaches
      top_p; in (0, 1], 1 keeps all (Holtzman et al. 2019, arXiv:1904.09751).
    min_p: keeps tokens at least min_p times as probable as the most probable
      token; in [0, 1], 0 keeps all (Nguyen et al. 2024, arXiv:2407.01082).
    repetition_penalty: makes tokens of the prompt and the response so far
      rarer if above 1; > 0 (Keskar et al. 2019, arXiv:1909.05858).
    bias: token id -> number that is added to the token's logit.
    forbidden: ids of tokens that are never drawn.

  Returns:
    A `Sampler`; equal settings return the same object.

  Raises:
    UserError: a setting is outside its range, or truncation is asked of the
      greedy sampler.
  """
  for name, value, valid, valid_range in (
    ("temperature", temperature, temperature >= 0, ">= 0"),
    ("top_k", top_k, top_k >= 0 and top_k == int(top_k), "an integer >= 0"),
    ("top_p", top_p, 0 < top_p <= 1, "in (0, 1]"),
    ("min_p", min_p, 0 <= min_p <= 1, "in [0, 1]"),
    ("repetition_penalty", repetition_penalty, repetition_penalty > 0, "> 0"),
  ):
    if not valid:
      raise UserError(
        f"{value!r} must be {valid_range}.", where=f"sampler.{name}"
      )
  if temperature == 0 and (top_k or top_p < 1 or min_p):
    raise UserError(
      "greedy sampling (temperature 0) takes no top_k, top_p or min_p.",
      where="sampler.temperature",
    )
  return _sampler(
    float(temperature),
    int(top_k),
    float(top_p),
    float(min_p),
    float(repetition_penalty),
    tuple(sorted((int(k), float(v)) for k, v in (bias or {}).items())),
    tuple(sorted({int(i) for i in forbidden})),
  )


@functools.lru_cache  # equal settings give the same functions: one jit cache
def _sampler(temperature, top_k, top_p, min_p, penalty, bias, forbidden):
  steps: list[Callable[[Array], Array]] = []
  if temperature not in (0, 1):
    steps.append(lambda z: z / temperature)
  if top_k:
    steps.append(functools.partial(filters.keep_top_k, k=top_k))
  if top_p < 1:
    steps.append(functools.partial(filters.keep_top_p, p=top_p))
  if min_p:
    steps.append(functools.partial(filters.keep_min_p, p=min_p))

  def adjust(logits, seen):
    if bias or forbidden:
      logits = filters.add_bias(logits, bias=bias, forbidden=forbidden)
    if penalty != 1:
      logits = filters.penalize_repetition(logits, seen, penalty=penalty)
    return logits

  def keep(logits, seen=None):
    logits = adjust(logits, seen)
    return functools.reduce(lambda z, step: step(z), steps, logits)

  def draw(logits, uniforms, seen=None, layout=NOT_SPLIT):
    return inverse_cdf(keep(logits, seen), uniforms, layout)

  def only_largest(logits, seen=None):
    ids = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    largest = greedy(adjust(logits, seen))
    return jnp.where(ids == largest[:, None], 0.0, -jnp.inf)

  def draw_largest(logits, uniforms, seen=None, layout=NOT_SPLIT):
    del uniforms
    tokens = greedy(adjust(logits, seen), layout)
    return DrawnTokens(tokens, jnp.zeros(tokens.shape, jnp.float32))

  changed = bool(bias or forbidden or penalty != 1)
  if temperature == 0:
    return Sampler(only_largest, draw_largest, penalty != 1)
  return Sampler(keep, draw, penalty != 1, not changed and not steps)
