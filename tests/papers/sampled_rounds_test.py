"""Claims on sampled rounds hold, and a wrong sign breaks one."""

from experiments.papers import sampled_rounds


def test_inpo_and_sppo_by_samples():
  rows = sampled_rounds.inpo_claims(4096)
  assert len(rows) == 2 and all(row.holds for row in rows)
  _, smallest = sampled_rounds.inpo_claims(4096, sign=-1)
  assert not smallest.holds
  (share,) = sampled_rounds.sppo_claims(4096)
  assert share.holds


def test_raft_by_samples():
  (law,) = sampled_rounds.raft_claims(4096)
  assert law.holds
  # The laws of best-of-3's powers are others.
  (law,) = sampled_rounds.raft_claims(4096, power=3)
  assert not law.holds
