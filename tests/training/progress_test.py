"""Progress without a terminal: a whole line a minute, and not one more."""

import errno
import io

import pytest

from jalign.training import progress
from jalign.training.progress import Progress, duration, follow


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _ticking(*seconds):
  """A clock that shows the given seconds in turn."""
  times = iter(seconds)
  return lambda: next(times)


def test_a_line_a_minute_says_how_far_how_fast_and_how_long(capsys):
  clock = _ticking(100, 130, 160, 219, 220, 300)
  with Progress("align", "step", 1000, initial=400, clock=clock) as p:
    p.update()
    p.show(loss=0.69314)
    p.update(119)  # a minute has passed
    p.update()  # 59 s
    p.update(2)  # another minute has passed
    p.update(0)  # nothing was done in 80 s
  said = capsys.readouterr()
  assert said.out == ""
  assert said.err.splitlines() == [
    "[align] step 520 of 1,000, loss 0.6931, 2.0 steps/s, 4 min left",
    "[align] step 523 of 1,000, loss 0.6931, 20.0 s/step, 2 h 39 min left",
    "[align] step 523 of 1,000, loss 0.6931",
  ]


def test_a_terminal_has_a_bar_instead(monkeypatch):
  monkeypatch.setattr("sys.stderr", _Terminal())
  clock = _ticking(0, 70, 140)
  with Progress("align", "step", 3, leave=True, clock=clock) as p:
    p.show(loss=0.5)
    p.update()
    p.update()
  said = progress.sys.stderr.getvalue()
  assert "[align]" not in said and "2/3" in said and "loss=0.5000" in said


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch):
  class Full(io.StringIO):
    def write(self, text):
      raise OSError(errno.ENOSPC, "full")

  monkeypatch.setattr("sys.stderr", Full())
  with Progress("align", "step", 3, clock=_ticking(0, 70)) as p:
    p.update()


def test_nothing_is_said_within_a_minute_or_without_a_description(capsys):
  for description, clock in (
    ("align", _ticking(0, 59)),
    ("", _ticking(0, 3600)),
  ):
    with Progress(description, "step", 2, clock=clock) as p:
      p.update()
  assert capsys.readouterr() == ("", "")


def test_items_are_followed_one_by_one(capsys, monkeypatch):
  monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
  assert list(follow(["a", "b"], "held out", "batch")) == ["a", "b"]
  lines = capsys.readouterr().err.splitlines()
  assert [line.split(",")[0] for line in lines] == [
    "[held out] batch 1 of 2",
    "[held out] batch 2 of 2",
  ]
  assert list(follow(iter("a"), "held out", "batch")) == ["a"]
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("[held out] batch 1, ") and "left" not in line


@pytest.mark.parametrize(
  "seconds, said",
  [
    (0.2, "0 s"),
    (59.4, "59 s"),
    (59.6, "1 min"),
    (3569, "59 min"),
    (3571, "1 h 00 min"),
    (7500, "2 h 05 min"),
  ],
)
def test_durations_are_words(seconds, said):
  assert duration(seconds) == said
