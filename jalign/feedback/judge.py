"""Judges, which say how good a response is or which of two is better.

A judge is a record of functions on `Answers`. The other functions here make a
judge out of something simpler: a function of one response or of many, of texts
on the host or of tokens on the devices.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jalign.errors import UserError
from jalign.feedback.answers import Answers
from jalign.sharding import batch_ways, constrain, spread
from jalign.types import Sequences

Score = Callable[[Answers], ArrayLike]  # -> [N]
Preference = Callable[[Answers, Answers], ArrayLike]  # -> [N]

_Position = (
  inspect.Parameter.POSITIONAL_ONLY,
  inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


class Parts(NamedTuple):
  """All numbers of a judge at once, with those that its reward is made of.

  Attributes:
    names: names of the parts, none of them "reward" or "cost".
    ask: `Answers -> {name: [N] finite numbers}`, with the parts, "reward" where
      the judge has a reward, and "cost" where it has a cost.
  """

  names: tuple[str, ...]
  ask: Callable[[Answers], Mapping[str, ArrayLike]]


class Judge(NamedTuple):
  """A record of functions of N answers; any of the functions may be None.

  `assess` and `compare` call these functions and check what they return.

  Attributes:
    reward: `Answers -> [N]` finite numbers, higher is better.
    cost: `Answers -> [N]` finite numbers, lower is better.
    preference: `(Answers, Answers) -> [N]` P(the first is preferred) in [0, 1],
      for two answers to each of N prompts; it may be intransitive. Where it is
      None, the preference follows from the reward:
      sigmoid(scale (r(a) - r(b))), Bradley and Terry 1952.
    scale: inverse temperature of a reward's preferences, > 0.
    reads_tokens: whether a function reads `Answers.sequences`, which is None
      for other judges.
    answers_all: False where a function may give NaN, which stands for no
      answer: never for a tie or for a number. What isn't answered is left out
      of training and of win rates, and counted.
    counts: `() -> {name: number}`, what was asked and answered so far on this
      process; None where nothing is counted. See `counts.say_counts`.
    parts: where it isn't None, `assess` calls `parts.ask` in place of `reward`
      and `cost`, which give the same numbers, and reports show the parts.
    segments: `Answers -> ` for each answer a list of (end, reward), rewards of
      segments of the text: `end` is the number of characters up to the
      segment's end. See `segments.from_segments`. Where there are several
      processes, each asks about all answers: the function must give the same
      everywhere.
  """

  reward: Score | None = None
  cost: Score | None = None
  preference: Preference | None = None
  scale: float = 1.0
  reads_tokens: bool = False
  answers_all: bool = True
  counts: Callable[[], Mapping[str, float]] | None = None
  parts: Parts | None = None
  segments: Callable[[Answers], Any] | None = None


def from_reward(reward: Callable[..., float], *, scale: float = 1.0) -> Judge:
  """Makes a judge from a reward function of one response.

  Args:
    reward: `(prompt, response) -> float`, or `(prompt, response, row) ->
      float` with the other columns of the data: a third parameter gets the row
      if it has no default or is called "row".
    scale: inverse temperature of the preferences, > 0.

  Raises:
    UserError: the scale is out of range.
  """
  return Judge(reward=_one_by_one(reward), scale=checked_scale(scale))


def from_rewards(
  rewards: Callable[..., ArrayLike], *, scale: float = 1.0
) -> Judge:
  """Makes a judge from a reward function of many responses.

  Args:
    rewards: `(prompts, responses, rows) -> [N]`, from three lists of N.
    scale: inverse temperature of the preferences, > 0.

  Raises:
    UserError: the scale is out of range.
  """

  @functools.wraps(rewards)
  def score(answers: Answers) -> ArrayLike:
    return rewards(*(list(column) for column in answers[:3]))

  return Judge(reward=score, scale=checked_scale(scale))


def from_parts(
  parts: Parts, *, cost: bool = False, scale: float = 1.0
) -> Judge:
  """Makes a judge from a function that gives all of its numbers at once.

  Args:
    parts: the numbers, "reward" among them.
    cost: whether "cost" is among them, too.
    scale: inverse temperature of the preferences, > 0.

  Raises:
    UserError: the scale is out of range.
  """
  return Judge(
    reward=lambda answers: parts.ask(answers)["reward"],
    cost=(lambda answers: parts.ask(answers)["cost"]) if cost else None,
    scale=checked_scale(scale),
    parts=parts,
  )


def from_cost(cost: Callable[..., float]) -> Judge:
  """Makes a judge from a cost function of one response.

  `from_reward(f)._replace(cost=from_cost(g).cost)` has both.

  Args:
    cost: a function as `from_reward` takes it; lower is better.
  """
  return Judge(cost=_one_by_one(cost))


def from_preference(preference: Callable[[str, str, str], float]) -> Judge:
  """Makes a judge from a preference function of two responses to a prompt.

  Args:
    preference: `(prompt, a, b) -> P(a is preferred)` in [0, 1]; it may be
      intransitive.
  """

  @functools.wraps(preference)
  def prefer(a: Answers, b: Answers) -> ArrayLike:
    texts = zip(a.prompts, a.texts, b.texts, strict=True)
    return [preference(*three) for three in texts]

  return Judge(preference=prefer)


def from_batch(preferences: Callable[..., ArrayLike]) -> Judge:
  """Makes a judge from a preference function of many prompts at once.

  Args:
    preferences: `(prompts, a, b) -> [N] P(a is preferred)` in [0, 1], from
      three lists of N texts.
  """

  @functools.wraps(preferences)
  def prefer(a: Answers, b: Answers) -> ArrayLike:
    # Lists of its own, as the function may change them.
    return preferences(list(a.prompts), list(a.texts), list(b.texts))

  return Judge(preference=prefer)


def on_tokens(
  reward: Callable[[Sequences], jax.Array] | None = None,
  cost: Callable[[Sequences], jax.Array] | None = None,
  preference: Callable[[Sequences, Sequences], jax.Array] | None = None,
  *,
  scale: float = 1.0,
  rows: int = 64,
) -> Judge:
  """Makes a judge that runs on the devices, such as a model that reads tokens.

  The results of reward and cost stay on the devices until they are read.

  Args:
    reward: `sequences -> [N]`, for example a jitted function.
    cost: `sequences -> [N]`.
    preference: `(sequences, sequences) -> [N]` P(the first is preferred).
    scale: inverse temperature of a reward's preferences, > 0.
    rows: number of rows that are judged at a time, rounded up to what the mesh
      divides. If there are more answers, the last part is filled up with rows
      that were judged before, so that all parts have one compiled shape.

  Within a mesh the rows are split over the batch axes, and each device judges
  its own, also where the devices are those of several processes. A function's
  own parameters must then lie on the mesh (`load_reward_model(mesh=...)`), or
  on no particular device.

  Raises:
    UserError: the scale is out of range.
  """
  parts = functools.partial(_in_parts, rows=rows)
  return Judge(
    reward and parts(reward),
    cost and parts(cost),
    preference and parts(preference),
    checked_scale(scale),
    reads_tokens=True,
  )


def checked_scale(scale: float) -> float:
  """Returns a scale of preferences; raises UserError if it is out of range."""
  if not 0 < scale < math.inf:
    raise UserError(f"{scale} must be > 0 and finite.", where="annotator.scale")
  return scale


def takes_row(function: Callable[..., Any]) -> bool:
  """Whether a function of prompt and response takes the data's row as well."""
  try:
    parameters = inspect.signature(function).parameters.values()
  except (TypeError, ValueError):  # a function in C without a signature
    return False
  places = [p for p in parameters if p.kind in _Position]
  needed = [p for p in places if p.default is p.empty]
  return len(needed) > 2 or any(p.name == "row" for p in places[2:3])


def _one_by_one(function: Callable[..., float]) -> Score:
  count = 3 if takes_row(function) else 2

  @functools.wraps(function)
  def score(answers: Answers) -> ArrayLike:
    columns = zip(*answers[:count], strict=True)
    return [function(*arguments) for arguments in columns]

  return score


def _in_parts(function: Callable[..., jax.Array], *, rows: int):
  """Makes a function of sequences one of answers, `rows` rows at a time."""

  @functools.wraps(function)
  def score(*answers: Answers) -> jax.Array:
    sequences = [_tokens_of(side) for side in answers]
    count, ways = len(answers[0].texts), batch_ways()
    each = -(-count // ways)  # rows on a device
    if each * ways > count:
      at = np.arange(each * ways) % count
      sequences = jax.tree.map(lambda x: x[at], sequences)
    sequences = spread(sequences)
    most = max(-(-rows // ways), 1)
    if each <= most:
      given = function(*sequences)
      return given if each * ways == count else jnp.asarray(given)[:count]
    parts = []
    for start in range(0, each, most):
      # The same rows of every device, so that no row moves to another.
      at = np.arange(start, start + most) % each
      part = jnp.asarray(function(*_rows_of_each(sequences, at, ways)))
      if part.shape != (ways * most,):
        return part  # not a number for each row, as the caller finds
      parts.append(part.reshape(ways, most))
    return jnp.concatenate(parts, 1)[:, :each].reshape(-1)[:count]

  return score


@functools.partial(jax.jit, static_argnames="ways")
def _rows_of_each(tree: Any, at: np.ndarray, ways: int) -> Any:
  """Of rows that lie in `ways` equal blocks, the rows `at` of each block."""

  def take(x):
    blocks = x.reshape(ways, -1, *x.shape[1:])[:, at]
    rows = blocks.reshape(-1, *x.shape[1:])
    return constrain(rows, ("batch",) + (None,) * (rows.ndim - 1))

  return jax.tree.map(take, tree)


def _tokens_of(answers: Answers) -> Sequences:
  if answers.sequences is None:
    raise UserError(
      "the judge reads tokens, but the answers have only texts.",
      where="annotator",
      remedy="Pass sequences to make_answers.",
    )
  return answers.sequences
