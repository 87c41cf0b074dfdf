"""Labels that several reward models doubt: flipped, softened, or with margins.

Wang et al. 2024, "Secrets of RLHF in Large Language Models Part II: Reward
Modeling", arXiv:2401.06080, sections 2 and 3.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jalign import losses
from jalign.data.schema import PreferenceRecord
from jalign.errors import UserError
from jalign.sharding import fetch


class Strengths(NamedTuple):
  """What became of N labels.

  Attributes:
    mean: [N] mean over the models of the chosen less the rejected score, in
      the order and under the labels that the pairs had.
    std: [N] its standard deviation over the models (the population's).
    preference: [N] P(the side that was chosen is better): 0 where the label
      was flipped.
  """

  mean: np.ndarray
  std: np.ndarray
  preference: np.ndarray

  def summary(self) -> str:
    """One line: pairs, doubts, and what was changed."""
    flipped = int(np.sum(self.preference == 0))
    soft = int(np.sum((self.preference > 0) & (self.preference < 1)))
    against = int(np.sum(self.mean < 0))
    return (
      f"{len(self.mean)} pairs: the models' mean contradicts {against} labels;"
      f" {flipped} labels flipped, {soft} softened"
    )


def by_strength(
  records: Sequence[PreferenceRecord],
  gaps: ArrayLike,
  *,
  flipped: float = 0.2,
  ambiguous: float = 0.2,
  label_smoothing: float = 0.1,
) -> tuple[list[PreferenceRecord], Strengths]:
  """Relabels pairs by how strongly reward models prefer the chosen response.

  Where a label is flipped, the sides change places, so that any loss on pairs
  can be trained. `preference` is 1, or 1 - label_smoothing where the strength
  is ambiguous, for losses with soft labels. `margin` is the models' mean gap
  under the new label, for `bradley_terry_margin`. The records' own preferences,
  margins and scores aren't kept, since they may contradict the new label.

  Args:
    records: N pairs.
    gaps: [R, N] score of the chosen less score of the rejected response, under
      each of R models that were trained on the same pairs in another order.
    flipped: as in `losses.relabelled`.
    ambiguous: as in `losses.relabelled`.
    label_smoothing: as in `losses.relabelled`.

  Returns:
    (N pairs in their order, what became of the labels).

  Raises:
    UserError: the gaps aren't [R, N] finite numbers, or a share is out of
      range.
  """
  given = np.asarray(gaps, np.float32)
  if given.ndim != 2 or given.shape[1] != len(records) or not given.size:
    raise UserError(
      f"gaps of shape {given.shape} for {len(records)} pairs.",
      remedy="Give [R, N] gaps of N pairs under R models.",
    )
  if not np.isfinite(given).all():
    raise UserError("a model's score is not a finite number.")
  strength = losses.preference_strength(jnp.asarray(given))
  preference = losses.relabelled(
    strength.mean,
    flipped=flipped,
    ambiguous=ambiguous,
    label_smoothing=label_smoothing,
  )
  mean, std, told = (
    np.asarray(x, np.float64)
    for x in fetch((strength.mean, strength.std, preference))
  )
  found = Strengths(mean, std, np.round(told, 6))
  return [
    _relabelled(record, *numbers)
    for record, *numbers in zip(records, found.mean, found.preference)
  ], found


def _relabelled(
  record: PreferenceRecord, gap: float, preference: float
) -> PreferenceRecord:
  """The record under its new label."""
  new = dataclasses.replace(
    record,
    preference=float(preference) or 1.0,
    margin=float(gap),
    chosen_score=None,
    rejected_score=None,
    preferences={},
  )
  if preference:
    return new
  return dataclasses.replace(
    new,
    chosen=record.rejected,
    rejected=record.chosen,
    chosen_unsafe=record.rejected_unsafe,
    rejected_unsafe=record.chosen_unsafe,
    margin=-float(gap),
  )
