"""The exact laws of the papers hold, and a wrong sign breaks them."""

import pytest

from experiments.papers import (
  decoding,
  distributional,
  estimators,
  safety,
  sampling_laws,
)

PARTS = (
  sampling_laws.best_of_n_claims,
  sampling_laws.raft_claims,
  sampling_laws.morlhf_claims,
  sampling_laws.and_claims,
  estimators.p3o_claims,
  estimators.ef21_claims,
  distributional.f_dpg_claims,
  distributional.fit_claims,
  distributional.rlhf_claims,
  distributional.gdc_claims,
  distributional.parl_claims,
  safety.cost_claims,
  safety.multiplier_claims,
  safety.augmented_claims,
  safety.coverage_claims,
  decoding.transfer_claims,
  decoding.deal_claims,
  decoding.align_claims,
)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_claims_hold(part):
  rows = part()
  assert rows
  assert not [claim for claim in rows if not claim.holds]


@pytest.mark.parametrize(
  "part, wrong",
  [
    (distributional.rlhf_claims, 1),
    (distributional.parl_claims, 2),
    (safety.cost_claims, 1),
    (safety.multiplier_claims, 1),
    (safety.augmented_claims, 1),
    (decoding.transfer_claims, 2),
    (decoding.align_claims, 1),
  ],
  ids=lambda x: getattr(x, "__name__", x),
)
def test_a_wrong_sign_breaks_a_claim(part, wrong):
  assert sum(not claim.holds for claim in part(sign=-1)) == wrong


def test_losses_of_each_other_divergence_are_told_apart():
  names = list(distributional.LOSSES)
  turned = names[1:] + names[:1]
  swapped = {n: distributional.LOSSES[m] for n, m in zip(names, turned)}
  first, _ = distributional.f_dpg_claims(swapped)
  assert not first.holds
