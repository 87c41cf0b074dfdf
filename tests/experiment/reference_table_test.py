"""Several processes read a precomputed reference, or all compute it."""

from unittest import mock

import pytest

from jalign.experiment import offline


@pytest.mark.parametrize(
  "mine, other, computes",
  [
    (True, True, False),
    (True, False, True),
    (False, True, True),
    (False, False, True),
  ],
)
def test_all_compute_the_reference_unless_all_have_read_it(
  mine, other, computes, monkeypatch, tmp_path
):
  """Each process tells the others what it has read, whatever that is."""
  told = []

  def exchange(value):
    told.append(value)
    return [value, other]

  own = mock.Mock()
  own.fingerprint.return_value = "mark"
  own.load.return_value = {"read": 1.0} if mine else None
  own.compute.return_value = {"computed": 1.0}
  monkeypatch.setattr(offline, "reference", own)
  monkeypatch.setattr(offline, "exchange", exchange)
  stage = mock.Mock(batch_size=1)
  stage.name = "align"
  run = mock.MagicMock(folder=tmp_path)
  table = offline.reference_table(run, stage, mock.Mock(), None)
  assert told == [mine]
  assert table == ({"computed": 1.0} if computes else {"read": 1.0})
