"""Scores that aren't finite are counted."""

import math

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.evaluation.finite import check_finite


def test_responses_are_counted():
  sources = ["a:1", "a:2", "a:3"]
  check_finite(np.zeros((3, 2)), sources)
  check_finite([np.zeros(2), np.zeros(5), -1e30], sources)
  check_finite([], [])
  scores = [np.zeros(2), np.array([0.0, math.nan]), -math.inf]
  with pytest.raises(UserError, match=r"^m: .* 2 of 3 .* first of a:2\."):
    check_finite(scores, sources, "m")
