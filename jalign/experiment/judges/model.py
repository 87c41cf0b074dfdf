"""Judges that are reward models or preference models, on the run's mesh."""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.experiment import scorer as scorers
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.judges.kind import JudgeKind, Named, Reading
from jalign.experiment.scorer import Scorer
from jalign.feedback import Answers, Judge
from jalign.feedback.combine import ensemble
from jalign.hosts import say
from jalign.models import hf
from jalign.models.preferences import FORMS
from jalign.sharding import fetch, make_mesh
from jalign.training import manifest
from jalign.training.trainable import HEAD

_SHARD = 2**20  # bytes of a file that are read at a time


def from_scorer(
  load: Callable[[], Scorer],
  gives: Sequence[str],
  reading: Callable[[], Reading | None] = lambda: None,
  *,
  scale: float = 1.0,
  weights: Mapping[str, float] = MappingProxyType({}),
  rows: int = 64,
) -> Judge:
  """Makes a judge of a scorer, which is loaded when the judge is first asked.

  The scorer reads a run's tokens where both write texts as the same tokens, and
  otherwise texts, which it encodes with its own tokenizer.

  Args:
    load: `() -> Scorer`, on the mesh of whoever asks.
    gives: what the head gives: "reward", "cost" or "preference".
    reading: how the run that asks writes texts; None where only texts are read.
    scale: inverse temperature of a reward's preferences.
    weights: of a head of several objectives, the weight of each objective in
      the reward; {} for their mean.
    rows: number of rows of a batch.
  """
  loaded = functools.cache(load)

  @functools.cache
  def same_tokens() -> bool:
    here, there = reading(), loaded()
    same = here is not None and writes_alike(here, there)
    if not same:
      say(
        f"[judge] {there.name} reads texts, with a tokenizer or a template of"
        " its own"
      )
    return same

  def states(answers: Answers) -> np.ndarray:
    own = loaded()
    tokens = answers.sequences
    read = (
      scorers.encode(own, answers.prompts, answers.texts)
      if tokens is None or not same_tokens()
      else _of_tokens(tokens)
    )
    return scorers.features(own, read, mesh_now(), rows)

  def score(answers: Answers) -> np.ndarray:
    own = loaded()
    head, params = own.head, own.params[HEAD]
    features = jnp.asarray(states(answers))
    if head.score is not None:
      weights_of(own, weights)
      scores = fetch(head.score(params, features)).astype(np.float64)
      return scores - own.constant
    scores = fetch(head.scores(params, features)).astype(np.float64)
    return scores @ weights_of(own, weights)

  def preference(a: Answers, b: Answers) -> np.ndarray:
    own = loaded()
    weights_of(own, weights)
    sides = jnp.asarray(states(a)), jnp.asarray(states(b))
    form = FORMS[own.form]
    return fetch(jax.nn.sigmoid(form(own.head, own.params[HEAD], *sides)))

  return Judge(
    score if "reward" in gives else None,
    score if "cost" in gives else None,
    preference if "preference" in gives else None,
    scale,
    reads_tokens=True,
  )


def weights_of(scorer: Scorer, weights: Mapping[str, float]) -> np.ndarray:
  """[M] weights of a scorer's objectives; {} weighs all alike.

  Raises:
    UserError: the scorer has no such objective, or a weight is no number.
  """
  names = scorer.names
  for name, weight in weights.items():
    if name not in names or not isinstance(weight, int | float):
      raise UserError(
        f"{name} = {weight!r} is not the weight of an objective of"
        f" {scorer.name}.",
        where="weights",
        remedy=f"Its objectives are: {', '.join(names)}."
        if names
        else "It has no objectives: leave the weights out.",
      )
  if not weights:
    return np.full(len(names), 1 / max(len(names), 1))
  return np.array([weights.get(name, 0.0) for name in names], np.float64)


def writes_alike(here: Reading, there: Scorer) -> bool:
  """Whether a run and a scorer write conversations as the same tokens."""
  mine, other = here.tokenizer, there.tokenizer
  if mine.backend.to_str() != other.backend.to_str():
    return False
  if mine.end_ids != other.end_ids or mine.prefix_ids != other.prefix_ids:
    return False
  texts = [t and t.text for t in (here.template, there.template)]
  return texts[0] == texts[1]


def mesh_now() -> jax.sharding.Mesh:
  """The mesh that is set; one of all devices where none is."""
  mesh = jax.sharding.get_mesh()
  return make_mesh() if mesh.empty else mesh


def _of_tokens(sequences: Any) -> list[data.EncodedSequence]:
  rows = fetch(sequences)
  return [
    data.EncodedSequence(tokens[:length], mask[:length], f"response {i}")
    for i, (tokens, mask, length) in enumerate(
      zip(rows.tokens, rows.mask, rows.lengths)
    )
  ]


def _make(
  named: Named,
  *,
  weights: Mapping[str, float] = MappingProxyType({}),
  rule: str = "",
  k: float = 1.0,
  rows: int = 64,
) -> Judge:
  def judge(folder: str) -> Judge:
    return from_scorer(
      lambda: scorers.load_scorer(folder, mesh_now()),
      _given(pathlib.Path(folder), named),
      named.tools.reading,
      scale=named.scale,
      weights=weights,
      rows=rows,
    )

  judges = {name: judge(_checked(name, named)) for name in _names(named)}
  where = f"{named.where}.settings"
  if len(judges) == 1:
    if rule:
      raise UserError(
        "is of several models, and one is named.",
        where=f"{where}.rule",
        remedy="Leave it out, or name several folders with commas between.",
      )
    return next(iter(judges.values()))
  return ensemble(
    judges, rule=rule or "mean", k=k, scale=named.scale, where=where
  )


def _given(folder: pathlib.Path, named: Named) -> tuple[str, ...]:
  found = scorers.gives_at(folder)
  if not found:
    raise UserError(
      "the model's head scores responses for a rater, whom a judge isn't told.",
      where=f"{named.where}.function: {folder}",
      remedy="Name a model with one of the heads scalar, objectives, pairwise"
      " and general.",
    )
  return found


def _names(named: Named) -> list[str]:
  names = [name.strip() for name in named.function.split(",")]
  if not all(names):
    raise UserError(
      f"{named.function!r} names no model.",
      where=f"{named.where}.function",
      remedy="Name the folder of a run or of a checkpoint.",
    )
  twice = [name for name in names if names.count(name) > 1]
  if twice:
    raise UserError(
      f"{twice[0]} is named twice.",
      where=f"{named.where}.function",
      remedy="Name each model once.",
    )
  return names


def _checked(name: str, named: Named) -> str:
  try:
    folder = hf.resolve(name)
    if not scorers.is_scorer(folder):
      raise UserError(
        "the folder holds a language model, without a score head.",
        where=str(folder),
        remedy="Name a run that trained a reward model, such as one of"
        " --config=reward_model, or a reward model's checkpoint.",
      )
  except UserError as e:
    raise UserError(
      e.problem, where=f"{named.where}.function: {e.where}", remedy=e.remedy
    ) from None
  return str(folder)


def _made_of(named: Named, **settings: Any) -> Iterable[str]:
  del settings
  return [fingerprint(hf.resolve(name)) for name in _names(named)]


def fingerprint(folder: pathlib.Path) -> str:
  """A hash of the files that a scorer's numbers come from."""
  if is_checkpoint(folder):
    files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
  else:
    stage = folders.last_stage(folder)
    files = [
      *(folder / "tokenizer").iterdir(),
      folder / "config.json",
      *stage.glob(f"*/*/{manifest.NAME}"),
    ]
  digest = hashlib.sha256()
  for path in sorted(file for file in files if file.is_file()):
    digest.update(path.name.encode())
    with path.open("rb") as file:
      while part := file.read(_SHARD):
        digest.update(part)
  return digest.hexdigest()[:32]


MODEL = JudgeKind(
  "a run that trained a reward, cost or preference model, or a checkpoint; or"
  " several of them, with commas between, which judge together",
  _make,
  _made_of,
)
