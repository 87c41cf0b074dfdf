"""One folder of runs, for all tests in this package."""

import pytest

from tests.robustness.runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
  return Runs(tmp_path_factory.mktemp("runs"))
