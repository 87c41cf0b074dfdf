"""A tiny data set and config, and a way to run the command line."""

import base64
import json
import pathlib
import signal

import matplotlib.figure
import numpy as np
import pytest

from jalign import cli
from jalign.glossary import rows_of
from jalign.training import progress
from jalign.training.metrics import RESERVED, read_jsonl

CONFIG = """
from jalign.configs import base


def get_config():
  c = base.get_config()
  c.title = "tiny"
  c.stages = ("sft", "align")
  c.data.path = {path!r}
  c.data.eval_fraction = 0.3
  c.data.max_prompt_tokens = 16
  c.data.max_response_tokens = 16
  c.data.buckets = (32,)
  c.tokenizer.vocab_size = 272
  c.model.hidden_size = 16
  c.model.intermediate_size = 16
  c.model.num_hidden_layers = 1
  c.model.num_attention_heads = 2
  c.model.num_key_value_heads = 2
  c.loss.beta = 0.1
  c.batch_size = 8
  c.steps = 4
  c.save_every = 2
  c.log_every = 1
  c.sft = base.stage(dict(name="sft"), steps=2)
  c.sample.prompts = 4
  c.sample.max_new_tokens = 4
  return c
"""


def pairs(count=40):
  """Pairs with "a" in chosen responses and "b" in rejected ones."""
  rng = np.random.default_rng(0)
  for i in range(count):
    a, b = rng.integers(1, 5, 2)
    yield {"prompt": f"q{i}:", "chosen": " a" * a, "rejected": " b" * b}


def check_names(folder):
  """Asserts that each metric of a run has exactly one row of the glossary."""
  for path in folder.rglob("metrics.jsonl"):
    for name in {name for row in read_jsonl(path) for name in row}:
      assert name in RESERVED or len(rows_of(name)) == 1, (path, name)
  for path in folder.rglob("results.json"):
    for name in json.loads(path.read_text()):
      assert "/" not in name or len(rows_of(name)) == 1, (path, name)


# One transparent pixel.
BLANK = base64.b64decode(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA"
  "60e6kgAAAABJRU5ErkJggg=="
)


def blank(figure, file, **options):
  """Stands for Figure.savefig, which takes longer than a tiny run."""
  file.write(BLANK)


class Workplace:
  """A folder with data, a config, and the command line."""

  def __init__(self, folder, capsys):
    self.folder, self._capsys = folder, capsys
    self.data, self.config = folder / "pairs.jsonl", folder / "config.py"
    self.write_data(pairs())
    self.config.write_text(CONFIG.format(path=str(self.data)))

  def write_data(self, rows):
    """Writes the data; a row is an object, or a line of the file."""
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    self.data.write_text("\n".join(lines) + "\n")

  def command(self, *flags, workdir="run"):
    """Arguments of `jalign train` for this config."""
    return [
      "train",
      f"--config={self.config}",
      f"--workdir={self.folder / workdir}",
      *flags,
    ]

  def align_alone(self):
    """Leaves the stage of SFT out of the config."""
    text = self.config.read_text().replace('("sft", "align")', '("align",)')
    lines = [line for line in text.splitlines() if "c.sft" not in line]
    self.config.write_text("\n".join(lines) + "\n")

  def train(self, *flags, workdir="run"):
    """Trains; returns the run's folder and what was printed."""
    cli.main(self.command(*flags, workdir=workdir))
    check_names(self.folder / workdir)
    return self.folder / workdir, self._capsys.readouterr().out

  def fails(self, arguments):
    """Runs a command that must exit with code 2; returns its one paragraph."""
    self._capsys.readouterr()
    with pytest.raises(SystemExit) as e:
      cli.main(arguments)
    said = self._capsys.readouterr().err
    assert e.value.code == 2
    assert said.startswith("jalign: error:") and "Traceback" not in said
    assert said.count("jalign: error") == 1
    return " ".join(said.split())


@pytest.fixture(scope="session")
def _plain(tmp_path_factory):
  folder = tmp_path_factory.mktemp("plain")
  where = Workplace(folder, None)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(pathlib.Path(__file__).resolve().parents[2])
    patch.setattr(matplotlib.figure.Figure, "savefig", blank)
    cli.main(where.command())
  return folder


def _states(folder):
  states = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
  return {path: (s.st_mtime_ns, s.st_size) for path, s in states.items()}


@pytest.fixture
def plain(_plain):
  """A folder with a config and its finished run, which no test may change."""
  before = _states(_plain)
  yield _plain
  assert _states(_plain) == before, "the test changed a run that others share"


@pytest.fixture
def drawn():
  """Requested by tests of plots, which are then drawn as for users."""


@pytest.fixture
def place(request, tmp_path, capsys, monkeypatch):
  """A place to train; plots are files of one pixel without `drawn`."""
  if "drawn" not in request.fixturenames:
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", blank)
  monkeypatch.setattr(progress, "EVERY_SECONDS", 3600)  # even on a busy machine
  monkeypatch.chdir(pathlib.Path(__file__).resolve().parents[2])
  handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
  yield Workplace(tmp_path, capsys)
  for number, handler in handlers.items():
    signal.signal(number, handler)
