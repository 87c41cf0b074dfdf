"""Labels that reward models doubt are flipped or softened."""

import numpy as np
import pytest

from jalign.data import PreferenceRecord
from jalign.data.strength import by_strength
from jalign.errors import UserError

MEANS = np.array([3.0, -2.0, 0.25, 1.0, 0.5, -0.5, 2.0, 4.0, 1.5, 0.75])


def _records(n=10):
  return [
    PreferenceRecord(
      "q", f"a{i}", f"b{i}", f"f:{i}", "q", preference=0.9, chosen_score=1.0,
      rejected_score=0.0, chosen_unsafe=True, rejected_unsafe=False,
    )
    for i in range(n)
  ]  # fmt: skip


def _gaps():
  spread = np.arange(10) / 10
  return np.stack([MEANS - spread, MEANS + spread, MEANS])


def test_the_weakest_fifth_is_flipped_and_the_next_softened():
  records = _records()
  new, found = by_strength(records, _gaps(), label_smoothing=0.2)
  np.testing.assert_allclose(found.mean, MEANS, rtol=1e-6)
  np.testing.assert_allclose(
    found.std, np.arange(10) / 10 * (2 / 3) ** 0.5, atol=1e-6
  )
  # In order of strength: 1, 5 | 2, 4 | the others.
  want = np.ones(10)
  want[[1, 5]], want[[2, 4]] = 0, 0.8
  np.testing.assert_allclose(found.preference, want)
  for i, (old, row) in enumerate(zip(records, new)):
    turned = i in (1, 5)
    sides = (old.rejected, old.chosen) if turned else (old.chosen, old.rejected)
    assert (row.chosen, row.rejected) == sides
    assert row.preference == pytest.approx(want[i] or 1.0)
    assert row.margin == pytest.approx(-MEANS[i] if turned else MEANS[i])
    assert (row.chosen_score, row.rejected_score) == (None, None)
    assert row.chosen_unsafe is not turned
    assert row.source == old.source
  assert found.summary() == (
    "10 pairs: the models' mean contradicts 2 labels; 2 labels flipped, 2"
    " softened"
  )


def test_shares_of_nothing_keep_all_labels():
  records = _records()
  new, found = by_strength(records, _gaps(), flipped=0.0, ambiguous=0.0)
  assert (found.preference == 1).all()
  assert [r.chosen for r in new] == [r.chosen for r in records]
  assert all(r.preference == 1 for r in new)


@pytest.mark.parametrize(
  "gaps, match",
  [
    (np.zeros((3, 4)), r"shape \(3, 4\) for 10 pairs"),
    (np.zeros(10), "shape"),
    (np.full((2, 10), np.nan), "not a finite number"),
  ],
)
def test_gaps_that_make_no_sense_are_refused(gaps, match):
  with pytest.raises(UserError, match=match):
    by_strength(_records(), gaps)
