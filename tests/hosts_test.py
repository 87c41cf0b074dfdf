"""If there are several processes, only the first writes files and lines."""

import jax

from jalign import hosts


def test_the_first_process_alone_does_what_is_done_once(monkeypatch, capsys):
  done = []
  append = hosts.once(done.append)
  for index in (1, 0, 3):
    monkeypatch.setattr(jax, "process_index", lambda index=index: index)
    append(index)
    hosts.say(f"process {index}")
  assert done == [0]
  assert capsys.readouterr().out == "process 0\n"
