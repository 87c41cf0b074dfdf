"""The catalogue's command, `python -m jalign.losses`."""

import inspect
import os
import re
import subprocess
import sys

import pytest

from jalign import losses
from jalign.cli.loss_catalogue import main
from jalign.training.kinds import KINDS, referring

COMMAND = [sys.executable, "-m", "jalign.losses"]


def _printed(capsys, monkeypatch, *argv, columns="80"):
  monkeypatch.setenv("COLUMNS", columns)
  main(argv)
  return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_every_loss_is_listed_once_and_fits(capsys, monkeypatch, columns):
  text = _printed(capsys, monkeypatch, columns=columns)
  heads = re.findall(r"^(\w+)  \(", text, flags=re.M)
  assert sorted(heads) == sorted(losses.CATALOGUE)
  widest = max(map(len, text.splitlines()))
  assert widest <= {"20": 72, "80": 80, "200": 100}[columns]


def test_a_summary_says_what_a_loss_takes(capsys, monkeypatch):
  text = _printed(capsys, monkeypatch)
  for name, entry in losses.CATALOGUE.items():
    block = re.search(rf"^{name}  \(.*?(?:\n\n|\Z)", text, flags=re.M | re.S)[0]
    words = " ".join(block.split())
    head = words[: words.index(") ")]
    arrays = losses.array_parameters(entry.function)
    assert f"takes {', '.join(arrays)}" in words
    assert entry.paper in head
    needs = bool(referring(KINDS[entry.batch], arrays))
    assert ("needs a reference" in head) == needs
    assert ("sees the whole batch" in head) == entry.coupled
    for key, value in losses.hyperparameters(entry.function).items():
      assert f"{key}={value}" in words
    formula = losses.formula_of(entry.function)
    assert formula.partition(", ")[0] in words
  assert f"{len(losses.CATALOGUE)} losses." in text


def test_kinds_are_headings(capsys, monkeypatch):
  text = _printed(capsys, monkeypatch)
  kinds = re.findall(r"^(\w+)\b.*\n=+$", text, flags=re.M)
  expected = [entry.batch for entry in losses.CATALOGUE.values()]
  assert kinds == list(dict.fromkeys(expected))


def test_one_loss_is_its_docstring(capsys, monkeypatch):
  text = _printed(capsys, monkeypatch, "simpo")
  assert inspect.getdoc(losses.simpo) in text
  assert " ".join(text.split()).startswith(
    "simpo(chosen_logps, rejected_logps, chosen_lengths, rejected_lengths, *,"
    " beta=2.0, gamma=0.5)"
  )
  assert max(map(len, text.splitlines())) <= 80


def test_one_sum_is_its_docstring(capsys, monkeypatch):
  text = _printed(capsys, monkeypatch, "rpo")
  assert text.startswith("rpo(*, beta=0.5, eta=0.2)")
  assert inspect.getdoc(losses.rpo) in text
  assert "rpo, rpo_code" in _printed(capsys, monkeypatch)


def test_an_unknown_name_is_one_paragraph(capsys):
  with pytest.raises(SystemExit) as caught:
    main(["ddpo"])
  assert caught.value.code == 2
  out, said = capsys.readouterr()
  assert not out
  assert "\n\n" not in said.strip() and max(map(len, said.splitlines())) <= 79
  words = " ".join(said.split())
  assert "error: unknown loss 'ddpo'. Did you mean 'dpo'?" in words
  assert "loss.name" not in words  # a key of configs, not of this command


def test_a_pipe_may_close_early():
  environment = os.environ | {"XLA_FLAGS": ""}
  with subprocess.Popen(
    COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
  ) as process:
    process.stdout.close()
    said = process.stderr.read()
  assert process.returncode == 128 + 13 and said == b""


def test_it_is_plain_text_in_a_pipe():
  done = subprocess.run(
    COMMAND, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
  )
  assert done.returncode == 0 and not done.stderr
  assert set(done.stdout) <= {*b"\n", *range(32, 127)}
