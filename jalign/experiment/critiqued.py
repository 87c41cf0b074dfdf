"""Scores of a critique reward model, after given or its own critiques."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jalign.data import critique_prompt, critique_text
from jalign.decode import sampler
from jalign.experiment.scorer import Scorer, encode, features
from jalign.feedback.completions import Question, ask
from jalign.feedback.local_model import ROWS, Loaded, local_model
from jalign.sharding import fetch
from jalign.training.trainable import HEAD, MODEL


def own_critiques(
  scorer: Scorer,
  prompts: Sequence[str],
  responses: Sequence[str],
  *,
  max_new_tokens: int = 64,
  rows: int = ROWS,
) -> list[str]:
  """The likeliest critique of each response, written by the model itself.

  Args:
    scorer: a model that was trained on critiques, on the mesh that is set.
    prompts: N texts.
    responses: N texts.
    max_new_tokens: the most tokens of a critique.
    rows: number of critiques that are decoded at a time.
  """
  own = Loaded(scorer.model, scorer.params[MODEL], scorer.tokenizer, None)
  model = local_model(
    lambda: own,
    sampler(temperature=0.0),
    identity={},
    max_new_tokens=max_new_tokens,
    rows=rows,
  )
  asked = [
    Question((("user", critique_prompt(*texts)),))
    for texts in zip(prompts, responses, strict=True)
  ]
  return [answer.text for answer in ask(model, asked)]


def critique_scores(
  scorer: Scorer,
  prompts: Sequence[str],
  responses: Sequence[str],
  critiques: Sequence[str],
  mesh: jax.sharding.Mesh,
  rows: int = 64,
) -> np.ndarray:
  """[N] scores of responses, read after a critique of each.

  With the critiques of the data and with `own_critiques`, the difference of the
  accuracies is the price of wrong critiques.

  Args:
    scorer: a model that was trained on critiques.
    prompts: N texts.
    responses: N texts.
    critiques: N texts.
    mesh: the mesh that the scorer's parameters lie on.
    rows: number of rows of a batch.
  """
  before = [critique_prompt(*x) for x in zip(prompts, responses, strict=True)]
  read = encode(scorer, before, [critique_text(x) for x in critiques])
  states = jnp.asarray(features(scorer, read, mesh, rows))
  scores = fetch(scorer.head.score(scorer.params[HEAD], states))
  return scores.astype(np.float64) - scorer.constant
