"""What a head of a model says of pairs, of lists and of single responses."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jalign import data
from jalign.errors import UserError
from jalign.training.kinds.kind import Arrays, Kind, Reading, optional
from jalign.training.kinds.lists import list_options, live, tokens
from jalign.training.kinds.score_checks import (
  check_labels,
  check_lists,
  check_pairs,
  check_ratings,
  head_settings,
  name_options,
)
from jalign.training.kinds.score_metrics import observe, of_objectives
from jalign.training.outputs import Outputs, counts_of
from jalign.types import Array

_OF_LISTS = {  # also of pairs; rank 1 is the best
  "scores": "BK",
  "ranks": "BK",
  "valid": "BK bool",
}
_OF_PAIRS = {
  "chosen_scores": "B",
  "rejected_scores": "B",
  "margin": "B",
  "preference": "B",
  "logits": "B",
  "swapped_logits": "B",
  "first_embeddings": "BZ",
  "second_embeddings": "BZ",
  # The rejected response of a pair is the more harmful one.
  "harmful_costs": "B",
  "harmless_costs": "B",
  "harmful_unsafe": "B bool",
  "harmless_unsafe": "B bool",
  # A pair may have a label under several of M objectives; 0 where it has none.
  "objective": "BM",
  "objective_preferences": "BM",
  "chosen_objective_scores": "BM",
  "rejected_objective_scores": "BM",
  # Log-probs and numbers of the scored tokens.
  "chosen_logps": "B",
  "rejected_logps": "B",
  "chosen_lengths": "B",
  "rejected_lengths": "B",
  # The same of critiques, where those are what is scored.
  "chosen_critique_logps": "B",
  "rejected_critique_logps": "B",
  "chosen_critique_lengths": "B",
  "rejected_critique_lengths": "B",
  # What the head reads; gaps are of the chosen less the rejected response.
  "chosen_features": "BD",
  "rejected_features": "BD",
  "feature_gaps": "BD",
}
_OF_ONE = {
  "response_scores": "B",
  "desirable": "B bool",
  "objective_scores": "BM",
  "ratings": "BM",
  "rated": "BM bool",
}

# Arrays of the first and the second response -> function of the head.
_SIDES = {
  ("chosen_scores", "rejected_scores"): "score",
  ("harmless_costs", "harmful_costs"): "score",
  ("chosen_objective_scores", "rejected_objective_scores"): "scores",
  ("first_embeddings", "second_embeddings"): "embed",
}
_WHOLE = {"response_scores": "score", "objective_scores": "scores"}
_HEAD = (
  {"scores": "score", "logits": "compare", "swapped_logits": "compare"}
  | {name: by for pair, by in _SIDES.items() for name in pair}
  | _WHOLE
)
_FEATURES = ("chosen_features", "rejected_features", "feature_gaps")
_SPOKEN = tuple(  # of a language model that scores
  f"{side}_{of}"
  for of in ("logps", "lengths")
  for side in ("chosen", "rejected")
)
_OF_CRITIQUES = {name.replace("_", "_critique_"): name for name in _SPOKEN}
_HELD = (
  "margin",
  "objective",
  "objective_preferences",
  "desirable",
  "ratings",
  "rated",
)


def _arrays(
  outputs: Outputs, batch: data.ScoreBatch, names: tuple[str, ...]
) -> Arrays:
  size = batch.valid.shape[1]
  _check_size(names, size)
  head, params = outputs.score_head()
  rows, arrays = _read(outputs, batch, names)
  asked = {_HEAD[name] for name in names if name in _HEAD} - {"compare"}
  found = {by: getattr(head, by)(params, rows) for by in asked}
  if "scores" in found:
    _check_objectives(batch, found["scores"].shape[1])
  arrays |= {"ranks": batch.ranks, "valid": live(batch)}
  for pair, by in _SIDES.items():
    if set(pair) & set(names):
      arrays |= {name: found[by][i::2] for i, name in enumerate(pair)}
  arrays |= {name: found[by] for name, by in _WHOLE.items() if name in names}
  if "scores" in names or "chosen_scores" in arrays:
    arrays["scores"] = found["score"].reshape(-1, size)
  if "logits" in names or "swapped_logits" in names:
    first, second = rows[0::2], rows[1::2]
    arrays["logits"] = head.compare(params, first, second)
    arrays["swapped_logits"] = head.compare(params, second, first)
  if any(name in names for name in _FEATURES):
    chosen, rejected = (rows[i::2].astype(jnp.float32) for i in (0, 1))
    arrays |= zip(_FEATURES, (chosen, rejected, chosen - rejected))
  return arrays | _labels(batch, names) | of_objectives(arrays, batch)


def _read(
  outputs: Outputs, batch: data.ScoreBatch, names: tuple[str, ...]
) -> tuple[Array, Arrays]:
  """What the head reads [R, D], and the language model's arrays, if asked."""
  critiques = set(_OF_CRITIQUES) & set(names)
  if not critiques and not set(_SPOKEN) & set(names):
    return outputs.features(), {}
  rows, logps = outputs.features_and_sums()
  counts = counts_of(batch.sequences)
  sides = logps[0::2], logps[1::2], counts[0::2], counts[1::2]
  arrays = dict(zip(_SPOKEN, sides))
  if critiques:
    arrays = {name: arrays[of] for name, of in _OF_CRITIQUES.items()}
  return rows, arrays


def _labels(batch: data.ScoreBatch, names: tuple[str, ...]) -> Arrays:
  """The arrays that a loss takes out of the batch."""
  # Where the data has no probability, the label counts as certain.
  preference = batch.preference
  if preference is None:
    preference = jnp.ones_like(batch.weights)
  arrays: Arrays = {"preference": preference}
  if "harmful_unsafe" in names or "harmless_unsafe" in names:
    if batch.unsafe is None:
      raise UserError(
        "the loss takes labels of safety, which the data doesn't hold.",
        where="loss",
        remedy="Give every pair 'chosen_unsafe' and 'rejected_unsafe', or"
        " choose another loss.",
      )
    arrays["harmless_unsafe"], arrays["harmful_unsafe"] = batch.unsafe.T
  return arrays | optional(batch, names, _HELD)


def _check_size(names: tuple[str, ...], size: int) -> None:
  """Raises UserError for arrays of another number of responses."""
  for of, wanted, said, remedy in (
    (_OF_PAIRS, size == 2, "two responses", "Give the loss pairs"),
    (_OF_ONE, size == 1, "one response", "Give the loss labels or ratings"),
    (_OF_LISTS, size > 1, "several responses", "Give the loss pairs or lists"),
  ):
    other = [name for name in names if name in of]
    if other and not wanted:
      raise UserError(
        f"the loss takes {', '.join(other)}, of {said}, and the batch has"
        f" {size} response{'s' * (size > 1)} to a prompt.",
        where="loss",
        remedy=f"{remedy}, or choose a loss on scores of"
        f" {'single responses' if size == 1 else 'lists'}.",
      )


def _check_objectives(batch: data.ScoreBatch, count: int) -> None:
  if len(batch.names) != count:
    raise UserError(
      f"the head scores {count} objectives, and the data has"
      f" {len(batch.names)}{': ' * bool(batch.names)}{', '.join(batch.names)}.",
      where="head.count",
      remedy=f"Give {len(batch.names)}."
      if batch.names
      else "Give records an 'objective', 'preferences' or 'ratings'.",
    )


def _best_first(lists: Sequence[data.EncodedList]) -> list[data.EncodedList]:
  """The lists, with their responses in the order of their scores."""
  ordered = []
  for record in lists:
    order = np.argsort(-record.scores, kind="stable")
    ordered.append(
      dataclasses.replace(
        record,
        responses=tuple(record.responses[i] for i in order),
        scores=record.scores[order],
      )
    )
  return ordered


_ONLY_PAIRS = tuple(
  name
  for name in _OF_PAIRS
  if name not in _HEAD and name not in ("preference", *_FEATURES)
)
SCORES = Kind(
  name="scores",
  about="what a reward model says of a pair",
  gives=_OF_PAIRS | _OF_LISTS | _OF_ONE,
  arrays=_arrays,
  observe=observe,
  counts={
    "tokens": tokens,
    "chosen_tokens": lambda batch: counts_of(batch.sequences)[0::2],
  },
  elsewhere={
    "chosen_views": "BD",
    "rejected_views": "BD",
  },
  records={
    "pairs": Reading(
      data.collate_scored_pairs,
      data.pair_length,
      options=name_options,
      lacks=(*_OF_ONE, *_OF_CRITIQUES),
      check=check_pairs,
    ),
    "critiques": Reading(
      data.collate_critiques,
      data.critiques_length,
      lacks=(*(n for n in _ONLY_PAIRS if n not in _OF_CRITIQUES), *_OF_ONE),
    ),
    "lists": Reading(
      data.collate_scored_lists,
      data.list_length,
      _best_first,
      options=list_options,
      lacks=(*_ONLY_PAIRS, "preference", *_OF_ONE),
      check=check_lists,
    ),
    "unpaired": Reading(
      data.collate_scored_labels,
      data.binary_length,
      lacks=(*_OF_PAIRS, *_OF_LISTS, "ratings", "rated"),
      check=check_labels,
    ),
    "ratings": Reading(
      data.collate_ratings,
      data.rating_length,
      options=name_options,
      lacks=(*_OF_PAIRS, *_OF_LISTS, "desirable"),
      check=check_ratings,
    ),
  },
  head=_HEAD,
  head_settings=head_settings,
  several=True,
)
