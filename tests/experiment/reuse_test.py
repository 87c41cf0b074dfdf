"""What is said where a round's responses serve several updates."""

import types

import pytest

from jalign import losses
from jalign.experiment import online
from jalign.online import ALGORITHMS, bind


@pytest.mark.parametrize(
  "name, passes, told",
  [
    ("rloo", 1, False),
    ("rloo", 2, True),
    ("nash_md", 2, True),
    ("p3o", 2, False),  # its ratios are to the recorded log-probs
    ("ppo", 2, False),
    ("sppo", 2, False),  # the iterate draws, and stays as it is
  ],
)
def test_later_updates_without_recorded_log_probs(name, passes, told, capsys):
  row = bind(ALGORITHMS[name], {"passes": passes, "minibatches": 1})
  function, _ = losses.resolve(row.loss)
  loss = types.SimpleNamespace(function=function, title="the loss")
  online._tell_reuse(types.SimpleNamespace(name="align"), row, loss)
  out = "".join(capsys.readouterr())
  assert ("the loss takes no log-probs of the time of sampling" in out) == told
