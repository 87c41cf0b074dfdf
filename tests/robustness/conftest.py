"""One folder of runs for all the tests here."""

import pytest

from tests.robustness.runs import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
  return Runs(tmp_path_factory.mktemp("runs"))
