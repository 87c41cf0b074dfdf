"""Any file is either loaded wholly or refused by a UserError.

Hypothesis draws the cases, the same ones in every run. A case is a file's
contents, or edits of a valid file.
"""

import collections
import datetime
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jalign import data
from jalign.errors import UserError
from jalign.experiment.commands.sweep import expand
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.config.settings import Settings
from jalign.experiment.disk import folder as folders
from jalign.models import ModelConfig
from jalign.training import metrics, reference
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState
from tests.experiment.conftest import pairs

FAST = 28  # cases of each kind
SLOW = {
  "jsonl": 2500,
  "hh": 1500,
  "config": 2000,
  "tokenizer": 1300,
  "checkpoint": 700,
  "run folder": 1500,
  "reference table": 500,
}
TOTALS: collections.Counter = collections.Counter()

# ------------------------------------------------------------------- edits

_SNIPPETS = (
  b"null",
  b"-1",
  b"1e999",
  b"NaN",
  b"[]",
  b"{}",
  b"true",
  b'""',
  rb'"\ud800"',
  b"\0",
  b"\xff\xfe",
  b"\n",
  b"9" * 5000,
  b"[" * 3000,
  b'{"a":' * 3000,
  "é\u2028".encode(),
)
_place = st.floats(0, 1, exclude_max=True)
_edit = st.one_of(
  st.tuples(st.just("flip"), _place, st.integers(0, 7)),
  st.tuples(st.just("cut"), _place, st.integers(1, 40)),
  st.tuples(st.just("end"), _place, st.none()),
  st.tuples(st.just("insert"), _place, st.sampled_from(_SNIPPETS)),
  st.tuples(st.just("insert"), _place, st.binary(min_size=1, max_size=8)),
  st.tuples(st.just("value"), _place, st.sampled_from(_SNIPPETS)),
  st.tuples(st.just("repeat"), _place, st.integers(1, 200)),
)
_edits = st.lists(_edit, min_size=1, max_size=4)


def _edited(sound: bytes, edits) -> bytes:
  text = bytearray(sound)
  for kind, where, what in edits:
    at = int(where * len(text))
    if kind == "flip" and text:
      text[at] ^= 1 << what
    elif kind == "cut":
      del text[at : at + what]
    elif kind == "end":
      del text[at:]
    elif kind == "insert":
      text[at:at] = what
    elif kind == "repeat":
      text[at:at] = text[at : at + what]
    elif kind == "value":  # of the next key of a JSON object
      colon = text.find(b":", at)
      ends = [i for i in (text.find(c, colon) for c in b",}]") if i > colon]
      if colon >= 0 and ends:
        text[colon + 1 : min(ends)] = what
  return bytes(text)


_json = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats()
  | st.text(max_size=12)
  | st.sampled_from(["", "dpo", "online_dpo", "jsonl", "train", "sft", -1, 0]),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=6), inner, max_size=3)
  ),
  max_leaves=6,
)


def _refused(load):
  """The loader's result, or None if it raises UserError; no other error."""
  try:
    return load()
  except UserError as e:
    assert str(e).strip()
    return None


# ------------------------------------------------------------------- kinds


class Files:
  """Valid files to edit, and a place for the edited files."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    rows = list(pairs(6))
    self.jsonl = "".join(json.dumps(row) + "\n" for row in rows).encode()
    turn = "\n\nHuman: {}\n\nAssistant:{}"
    transcripts = (
      {k: turn.format(r["prompt"], r[k]) for k in ("chosen", "rejected")}
      for r in rows
    )
    self.hh = "".join(json.dumps(t) + "\n" for t in transcripts).encode()
    self.tokenizer = data.train_bpe([r["prompt"] for r in rows], 270)
    self.tokenizer.save(folder / "tokenizer")
    checkpoints = Checkpoints(folder / "checkpoints")
    for step in (2, 4):
      checkpoints.save(_state(step), data=step, meta={})
    checkpoints.close()
    model = ModelConfig(9, 8, 8, 1, 2, 2)
    (folder / "run").mkdir()
    folders.claim(folder / "run", defaults())
    today = datetime.date.today()
    folders.describe(folder / "run", model, ("sft", "align"), today)
    writer = metrics.JsonlWriter(folder / "run" / "metrics.jsonl")
    for step in range(4):
      writer.write(step, {"loss": step / 3, "eval/loss": float("nan")})
    writer.close()
    self.table = {f"d:{i}": np.arange(2, dtype=np.float32) for i in range(5)}
    reference.store(folder / "table.npz", self.table, "f")

  def pairs(self, source, case):
    edits, on_error = case
    path = self.folder / "pairs.jsonl"
    path.write_bytes(_edited(getattr(self, source), edits))
    outcome = _refused(lambda: data.read(source, path, on_error=on_error))
    if outcome is not None:
      records, report = outcome
      assert len(records) == report.used > 0
      assert report.read == report.used + len(report.skipped)
      assert on_error == "skip" or not report.skipped
      limits = data.Limits(64, 32, 32)
      encoded, _ = data.encode_pairs(records, self.tokenizer, limits)
      assert len(encoded) == len(records)

  def config(self, case):
    config = json.loads(json.dumps(defaults()))
    config["data"]["path"] = "pairs.jsonl"
    for path, value in case:
      section = config
      for key in path[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
      if isinstance(section, dict):
        section[path[-1]] = value
    for _, variant in _refused(lambda: expand(config)) or ():
      parsed = _refused(lambda variant=variant: parse(variant))
      assert parsed is None or isinstance(parsed, Settings)

  def load_tokenizer(self, case):
    name, edits = case
    folder = self.folder / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(self.folder / "tokenizer", folder)
    path = folder / name
    path.write_bytes(_edited(path.read_bytes(), edits))
    tokenizer = _refused(lambda: data.load(folder))
    if tokenizer is not None:
      ids = tokenizer.encode("q1: a <eos> é")
      assert all(0 <= i < tokenizer.vocab_size for i in ids)
      assert isinstance(tokenizer.decode(ids), str)
      assert 0 <= tokenizer.eos_id < tokenizer.vocab_size

  def checkpoint(self, case):
    folder = self.folder / "edited-checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(self.folder / "checkpoints", folder)
    names = sorted(p for p in folder.rglob("*") if p.is_file())
    for where, edits in case:
      path = names[int(where * len(names))]
      path.write_bytes(_edited(path.read_bytes(), edits))
    restored = _refused(lambda: Checkpoints(folder).restore(_state(0)))
    if restored is not None:
      step = int(restored.state.step)
      assert step in (2, 4) and restored.data == step
      jax.tree.map(np.testing.assert_array_equal, restored.state, _state(step))

  def run_folder(self, case):
    name, edits, step = case
    folder = self.folder / "edited-run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(self.folder / "run", folder)
    path = folder / name
    path.write_bytes(_edited(path.read_bytes(), edits))
    model = _refused(lambda: folders.model_of(folder))
    assert model is None or isinstance(model, ModelConfig)
    _refused(lambda: folders.last_stage(folder))
    _refused(lambda: folders.check(folder, defaults()))
    for row in (
      _refused(lambda: metrics.read_jsonl(folder / "metrics.jsonl")) or ()
    ):
      assert isinstance(row["step"], int)
      assert all(isinstance(v, int | float) for v in row.values())

    def resume():
      writer = metrics.JsonlWriter(folder / "metrics.jsonl")
      try:
        writer.truncate_after(step)
        writer.write(step + 1, {"loss": 1.0})
      finally:
        writer.close()
      return metrics.read_jsonl(folder / "metrics.jsonl")

    rows = _refused(resume)
    if rows is not None:
      assert rows[-1]["step"] == step + 1
      assert all(row["step"] <= step for row in rows[:-1])

  def reference_table(self, edits):
    path = self.folder / "edited.npz"
    path.write_bytes(_edited((self.folder / "table.npz").read_bytes(), edits))
    table = reference.load(path, "f")
    if table is not None:
      assert table.keys() == self.table.keys()
      for key, value in self.table.items():
        np.testing.assert_array_equal(table[key], value)


def _state(step):
  fill = lambda *shape: jnp.full(shape, step + 0.1, jnp.float32)
  return TrainState(jnp.int32(step), {"w": fill(3, 4)}, {"mu": fill(3)})


def _paths():
  paths = []
  for key, value in defaults().items():
    paths += [(key,)]
    paths += [(key, k) for k in value] if isinstance(value, dict) else []
  return [*paths, ("sft",), ("nope",), ("train", "loss"), ("loss", "weights")]


_on_error = st.sampled_from(["error", "skip"])
_part = st.sampled_from(["tokenizer.json", "tokenizer_config.json"])
_of_run = st.sampled_from(["metrics.jsonl", "run.json", "config.json"])
KINDS = {
  "jsonl": (st.tuples(_edits, _on_error), lambda f, x: f.pairs("jsonl", x)),
  "hh": (st.tuples(_edits, _on_error), lambda f, x: f.pairs("hh", x)),
  "config": (
    st.lists(
      st.tuples(st.sampled_from(_paths()), _json), min_size=1, max_size=3
    ),
    Files.config,
  ),
  "tokenizer": (st.tuples(_part, _edits), Files.load_tokenizer),
  "checkpoint": (
    st.lists(st.tuples(_place, _edits), min_size=1, max_size=3),
    Files.checkpoint,
  ),
  "run folder": (
    st.tuples(_of_run, _edits, st.integers(-1, 4)),
    Files.run_folder,
  ),
  "reference table": (_edits, Files.reference_table),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  return Files(tmp_path_factory.mktemp("fuzz"))


def _fuzz(files, kind, cases):
  strategy, check = KINDS[kind]

  @settings(
    max_examples=cases,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
  )
  @given(strategy)
  def case(x):
    TOTALS[kind] += 1
    check(files, x)

  case()


@pytest.mark.parametrize("kind", KINDS)
def test_a_few(files, kind):
  _fuzz(files, kind, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many(files, kind, capsys):
  TOTALS[kind] = 0
  _fuzz(files, kind, SLOW[kind])
  assert TOTALS[kind] >= SLOW[kind]
  with capsys.disabled():
    done = ", ".join(f"{n} {k}" for k, n in TOTALS.items() if n >= SLOW[k])
    print(f"\n{sum(TOTALS.values())} cases: {done}")
