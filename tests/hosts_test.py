"""If there are several processes, only the first writes files and lines."""

import pathlib

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from jalign import hosts, messages
from jalign.errors import UserError


def test_the_first_process_alone_does_what_is_done_once(monkeypatch, capsys):
  done = []
  append = hosts.once(done.append)
  for index in (1, 0, 3):
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    append(index)
    hosts.say(f"process {index}")
  assert done == [0]
  assert capsys.readouterr().out == "process 0\n"


def test_values_of_many_sizes_are_exchanged_in_few_shapes(monkeypatch):
  shapes = set()

  def gather(x):
    shapes.add(np.shape(x))
    return np.stack([x, x])

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(multihost_utils, "process_allgather", gather)
  for size in range(200):
    assert hosts.exchange("x" * size) == ["x" * size] * 2
  assert len(shapes) < 8


def _second_of_two(monkeypatch, other):
  """Makes this the second of two processes; `other` is what the first told."""
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  monkeypatch.setattr(hosts, "exchange", lambda value: [(other, None), value])


def test_items_with_one_key_are_in_one_part(monkeypatch):
  third = np.float64(1) / 3  # which float32 rounds
  _second_of_two(monkeypatch, ([0, 1, 3], {"x": np.full(3, third)}))
  asked = []

  def numbers(at):
    asked.extend(at)
    return {"x": 2 * third + np.asarray(at)}

  whole = hosts.divided(["a", "b", "c", "a", "d", "c"], numbers)
  assert asked == [2, 4, 5]
  want = [third, third, 2 * third + 2, third, 2 * third + 4, 2 * third + 5]
  assert whole["x"].tolist() == want


def test_processes_that_name_other_numbers_are_refused(monkeypatch):
  _second_of_two(monkeypatch, ([0], {"x": np.zeros(1)}))
  with pytest.raises(UserError, match="process 1") as e:
    hosts.divided(["a", "b"], lambda at: {"y": np.zeros(len(at))})
  assert "['y']" in str(e.value) and "['x']" in str(e.value)


def test_messages_keep_values_and_run_no_code():
  numbers = np.array([0.1, np.nan, -0.0])
  whole = {
    ("a", 1): [None, True, 3, 0.1, "\u00e9\ud800", pathlib.Path("a/b")],
    "numbers": numbers,
    "empty": np.zeros((0, 2), np.float32),
  }
  back = messages.unpacked(messages.packed(whole))
  assert back[("a", 1)] == whole[("a", 1)]
  assert back["numbers"].tobytes() == numbers.tobytes()
  assert back["empty"].shape == (0, 2) and back["empty"].dtype == np.float32
  for bad in (object(), {1, 2}, np.array([None])):
    with pytest.raises(TypeError, match="can't be sent"):
      messages.packed(bad)
