"""Rewards of segments: reading them, and finding their last tokens."""

import pytest

from jalign.errors import UserError
from jalign.feedback import make_answers
from jalign.feedback.combine import weighted
from jalign.feedback.segments import from_segments, places_of, read_segments


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (None, "not a list of segments for each of 1"),
    ([[], []], "list of 2"),
    ([3.0], "3.0 for response 0"),
    ([[4.0]], "as a segment"),
    ([[(9, 1.0)]], "ends at character 9 of 4"),
    ([[(3, 1.0), (2, 1.0)]], "after one that ends at 3"),
    ([[(1.5, 1.0)]], "ends at character 1.5"),
    ([[(1, float("nan"))]], "nan"),
    ([[(1, "good")]], "not a number"),
  ],
)
def test_wrong_shapes_are_refused(given, said):
  with pytest.raises(UserError, match=said):
    read_segments(given, ["text"])


def test_the_last_token_of_a_segment_is_found_by_decoding():
  """A word in three tokens, a character in two, spaces that join words."""
  pieces = {1: b"un", 2: b"believ", 3: b"able", 4: " caf\u00e9".encode()[:5]}
  pieces[5] = " caf\u00e9".encode()[5:]
  decode = lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace")
  text = "unbelievable caf\u00e9"
  assert places_of([1, 2, 3, 4, 5], [12, len(text)], text, decode) == [2, 4]
  assert places_of([1, 2, 3, 4, 5], [0, 2, 3], text, decode) == [0, 0, 1]
  assert places_of([1], [], "un", decode) == []


def test_a_weighted_sum_has_the_segments_of_its_judges():
  first = from_segments(lambda prompt, response: [(1, 2.0), (3, 1.0)])
  second = from_segments(lambda prompt, response: [(2, 10.0)])
  judge = weighted({"a": first, "b": second}, {"a": 0.5, "b": 2.0})
  answers = make_answers(["x"], ["abc"])
  assert judge.segments(answers) == [[(1, 1.0), (2, 20.0), (3, 0.5)]]
  plain = first._replace(segments=None)
  judge = weighted({"a": plain, "b": second}, {"a": 0.5, "b": 2.0})
  assert judge.segments is None
