"""Scores responses by reward models and preference models."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.evaluation import scored_pairs
from jalign.evaluation.finite import check_finite
from jalign.evaluation.scored_pairs import ScoredPairs
from jalign.experiment import scorer as scorers
from jalign.experiment.commands.score_data import Response
from jalign.experiment.commands.score_rows import Row, described
from jalign.experiment.scorer import Scorer
from jalign.models.preferences import FORMS
from jalign.sharding import fetch
from jalign.training.trainable import HEAD

PREFERENCE = "preference"  # column of a preference model
_CHUNK = 1024  # number of responses that are sorted by length together
_BLOCK = 1024  # pairs that are compared at a time


class Margins(NamedTuple):
  """Pairs of one row's responses of which the data prefers one.

  Attributes:
    margins: column -> by how much the column prefers the response that the data
      prefers: a difference of scores, or the log-odds of a preference.
    groups: keys of the pairs' prompts.
  """

  margins: dict[str, list[float]]
  groups: list[str]


def score_columns(scorer: Scorer) -> tuple[str, ...]:
  """Names of the columns that a scorer gives.

  "score" for a reward model of one number, "score_NAME" for each objective of
  several, and "preference" for a preference model.

  Raises:
    UserError: the head scores for a rater.
  """
  if scorer.form:
    return (PREFERENCE,)
  if getattr(scorer.head, "score", None) is not None:
    return ("score",)
  if getattr(scorer.head, "scores", None) is not None:
    return tuple(f"score_{name}" for name in scorer.names)
  raise UserError(
    "the model's head scores responses for a rater, whom the data doesn't"
    " name.",
    where=scorer.name,
    remedy="Take a model with one of the heads scalar, objectives, pairwise"
    " and general.",
  )


def check_responses(responses: Sequence[Response], scorer: Scorer) -> None:
  """Raises UserError if a preference model has nothing to compare with."""
  if score_columns(scorer) != (PREFERENCE,):
    return
  for _, row in itertools.groupby(responses, lambda r: r.row):
    first, *others = row
    if not others:
      raise UserError(
        "a preference model compares responses to one prompt, and this row has"
        " one response.",
        where=first.source,
        remedy="Give pairs or ranked lists, or a model of rewards.",
      )


def model_rows(
  responses: Sequence[Response],
  scorer: Scorer,
  batch_size: int,
  mesh: jax.sharding.Mesh,
) -> Iterator[tuple[list[Row], Margins]]:
  """Yields rows in the order of the data, some at a time, with their margins.

  A preference is the mean probability that the response is preferred to the
  other responses of its row.

  Args:
    responses: what to score; those of a row of the data are adjacent.
    scorer: the model.
    batch_size: number of responses at a time.
    mesh: the mesh that the model lies on.

  Raises:
    UserError: a number isn't finite; the error names a response.
  """
  # The data's texts have been written with whatever follows their end.
  scorer = scorer._replace(after=())
  for chunk in _chunks(responses):
    encoded = [response.encoded for response in chunk]
    states = scorers.features(scorer, encoded, mesh, rows=batch_size)
    pairs = _pairs(chunk)
    margins = margins_of(scorer, states, pairs)
    values = (
      {PREFERENCE: _mean_wins(margins[PREFERENCE], pairs, len(chunk))}
      if PREFERENCE in margins
      else _scores(scorer, states)
    )
    sources = [response.source for response in chunk]
    for x in values.values():
      check_finite(x, sources)
    rows = [
      described(response) | {name: float(x[i]) for name, x in values.items()}
      for i, response in enumerate(chunk)
    ]
    yield rows, _labelled(chunk, pairs, margins)


def margins_of(
  scorer: Scorer, states: np.ndarray, pairs: np.ndarray
) -> dict[str, np.ndarray]:
  """Column -> [P] by how much the first responses of pairs are preferred.

  Args:
    scorer: the model.
    states: [N, D] states of responses, from `scorer.features`.
    pairs: [P, 2] indices of responses.

  Returns:
    Differences of scores, with the other sign where lower scores are better;
    or log-odds of preferences.
  """
  if score_columns(scorer) == (PREFERENCE,):
    return {PREFERENCE: _log_odds(scorer, states, pairs)}
  first, second = pairs.T
  values = _scores(scorer, states)
  return {
    name: scorer.sign * (x[first] - x[second]) for name, x in values.items()
  }


def _chunks(responses: Sequence[Response]) -> Iterator[list[Response]]:
  """Yields responses in their order, with those of a row together."""
  chunk: list[Response] = []
  for _, row in itertools.groupby(responses, lambda r: r.row):
    chunk += row
    if len(chunk) >= _CHUNK:
      yield chunk
      chunk = []
  if chunk:
    yield chunk


def _pairs(chunk: Sequence[Response]) -> np.ndarray:
  """[P, 2] indices of all pairs of responses of one row."""
  pairs: list[tuple[int, int]] = []
  by_row = lambda i: chunk[i].row
  for _, row in itertools.groupby(range(len(chunk)), by_row):
    pairs += itertools.combinations(row, 2)
  return np.array(pairs, int).reshape(-1, 2)


def _scores(scorer: Scorer, states: np.ndarray) -> dict[str, np.ndarray]:
  head, params = scorer.head, scorer.params[HEAD]
  features = jnp.asarray(states)
  if head.score is not None:
    scores = fetch(head.score(params, features)).astype(np.float64)
    return {"score": scores - scorer.constant}
  scores = fetch(head.scores(params, features)).astype(np.float64)
  return dict(zip(score_columns(scorer), scores.T, strict=True))


def _log_odds(
  scorer: Scorer, states: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
  """[P] log-odds that the first response of a pair is preferred."""
  odds: Any = np.zeros(len(pairs), np.float64)
  form = FORMS[scorer.form]
  for start in range(0, len(pairs), _BLOCK):
    some = pairs[start : start + _BLOCK]
    # Blocks of one size are compiled once.
    at = np.resize(some, (min(_BLOCK, len(pairs)), 2))
    both = (jnp.asarray(states[at[:, side]]) for side in (0, 1))
    found = fetch(form(scorer.head, scorer.params[HEAD], *both))
    odds[start : start + len(some)] = found[: len(some)]
  return odds


def _mean_wins(odds: np.ndarray, pairs: np.ndarray, count: int) -> np.ndarray:
  """[count] mean probabilities to be preferred in a response's pairs."""
  # A sum of logarithms has no overflow.
  wins = np.exp(-np.logaddexp(0.0, -odds))
  first, second = pairs.T
  total = np.bincount(first, wins, count)
  total += np.bincount(second, 1 - wins, count)
  return total / np.bincount(pairs.ravel(), minlength=count)


def _labelled(
  chunk: Sequence[Response], pairs: np.ndarray, margins: dict[str, np.ndarray]
) -> Margins:
  """The pairs of which the data prefers one, the better response first."""
  found = Margins({name: [] for name in margins}, [])
  for at, (i, j) in enumerate(pairs.tolist()):
    a, b = chunk[i].given, chunk[j].given
    if a is None or b is None or a == b:
      continue
    sign = 1 if a > b else -1
    for name, x in margins.items():
      found.margins[name].append(sign * float(x[at]))
    found.groups.append(chunk[i].group)
  return found


def labelled(margins: Margins) -> dict[str, ScoredPairs]:
  """Column -> labelled pairs; {} where the data has no labels."""
  if not margins.groups:
    return {}
  return {
    name: scored_pairs.from_margins(x, groups=margins.groups)
    for name, x in margins.margins.items()
  }
