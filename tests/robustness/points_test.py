"""The functions that `points` names still exist."""

import inspect

import pytest

from tests.robustness import driver
from tests.robustness.full_test import WRITES
from tests.robustness.kill_test import CHAINS
from tests.robustness.points import POINTS


@pytest.mark.parametrize("name", POINTS)
def test_a_point_names_a_function(name):
  holder, called, function = driver.find(POINTS[name].target)
  assert inspect.isfunction(function) and function.__name__ == called
  if inspect.ismodule(holder):  # the defining module, not an importing one
    assert function.__module__ == holder.__name__


def test_the_tests_name_points():
  assert set(WRITES) <= set(POINTS)
  for mode, names in CHAINS.items():
    assert all(mode in POINTS[name].modes for name in names)
