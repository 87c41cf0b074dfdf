"""Published figures of chips, against other figures that are published."""

import pytest

from jalign.plan.chips import CHIPS
from jalign.plan.roofline import bound


@pytest.mark.parametrize(
  "name, chips, all_reduced",
  [("v5e", 256, 51.2e12), ("v6e", 256, 102.4e12)],
)
def test_links_of_a_pod_carry_its_all_reduce_bandwidth(
  name, chips, all_reduced
):
  assert CHIPS[name].links * chips == pytest.approx(all_reduced)


def test_links_of_a_v4_pod_nearly_carry_its_all_reduce_bandwidth():
  assert CHIPS["v4"].links * 4096 == pytest.approx(1.1e15, rel=0.15)


def test_a_ring_is_as_fast_as_the_links_of_one_way():
  sent = 64e9
  assert bound(CHIPS["v5e"], 0, 0, sent).seconds == sent / 200e9
  assert bound(CHIPS["v5e"], 0, 0, sent).by == "links"
