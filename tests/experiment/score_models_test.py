"""`jalign score` with reward models of several labels and preference models."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from jalign import cli, data
from jalign.evaluation.clustered import clustered_share
from jalign.experiment import scorer as scorers
from jalign.experiment.last_states import last_states
from jalign.models import HEADS, hf, last_hidden, transformer
from jalign.models.hf import StoredHead
from jalign.sharding import make_mesh
from jalign.types import Sequences
from tests.data import chat_tokenizer
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN

KINDS = {
  "objectives": dict(count=3),
  "pairwise": dict(rank=2),
  "general": dict(width=4),
}


def _checkpoint(folder, name="scalar", case="llama", form="", **more):
  """A reward model's checkpoint with a tokenizer, and with a random head."""
  described = json.loads(str(GOLDEN[f"reward/{case}/json"]))
  embed = "transformer.wte" if case == "gpt2" else "model.embed_tokens"
  shapes = described["shapes"] | {f"{embed}.weight": (272, 16)}
  config = described["config"] | {"vocab_size": 272} | more
  plain = cases.write(folder.with_name("plain"), config, shapes)
  chat_tokenizer.write(plain)
  model = hf.load_reward_model(plain)
  if name != "scalar":
    settings = KINDS[name]
    shapes = HEADS[name](16, **settings).init(jax.random.key(0))
    params = {k: cases.weight(k, x.shape) for k, x in shapes.items()}
    names = ("helpful", "harmless", "honest") if name == "objectives" else ()
    head = StoredHead(
      name,
      settings,
      jax.tree.map(jnp.asarray, params),
      names,
      0,
      form,
    )
    model = model._replace(head=head)
  hf.save_reward_model(model, folder, like=plain)
  return folder, model


def _score(place, folder, *flags):
  out = place.folder / "scores.parquet"
  command = ["score", f"--model={folder}", f"--data={place.data}"]
  cli.main([*command, f"--out={out}", *flags])
  return pq.read_table(out).to_pylist()


def _lists(count, sizes=(2, 3, 4)):
  rng = np.random.default_rng(1)
  for i in range(count):
    size = sizes[i % len(sizes)]
    lengths = 1 + rng.permutation(8)[:size]  # no two texts are equal
    texts = ["x" * int(n) for n in lengths]
    prompt = f"question {i}: " + "y" * 30
    yield {
      "prompt": prompt,
      "responses": texts,
      "scores": rng.permutation(size).tolist(),
    }


def _states(folder, model, rows):
  """[N, D] states of rows' last tokens, each computed by itself."""
  tokenizer = data.load(folder)
  forward = jax.jit(transformer(model.config).forward)
  out = []
  for row in rows:
    ids = tokenizer.encode(row["prompt"]) + row["tokens"]
    padded = np.array([ids + [0] * (64 - len(ids))])  # compiled once
    out.append(np.asarray(forward(model.params, padded)[0, len(ids) - 1]))
  return np.stack(out)


def test_a_column_for_each_objective(place, tmp_path, capsys):
  folder, model = _checkpoint(tmp_path / "m", "objectives")
  place.write_data(_lists(7))
  rows = _score(place, folder, "--batch_size=6")
  states = _states(folder, model, rows)
  want = states @ model.head.params["weight"] + model.head.params["bias"]
  assert want.std() > 0.1
  names = [f"score_{name}" for name in model.head.names]
  got = [[row[name] for name in names] for row in rows]
  np.testing.assert_allclose(got, want, atol=1e-4)
  said = capsys.readouterr().out
  given = [x for row in _lists(7) for x in row["scores"]]
  index = [i for i, row in enumerate(_lists(7)) for _ in row["scores"]]
  for name, x in zip(names, want.T):
    wins, groups = [], []
    for i in range(len(rows)):
      for j in range(len(rows)):
        if index[i] == index[j] and given[i] > given[j]:
          wins.append(100 * float(x[i] > x[j]))
          groups.append(index[i])
    share = clustered_share(wins, groups, scale=100)
    low, high = share.interval
    assert (
      f"{name} higher for chosen: {share.mean:.1f} % (95 % interval {low:.1f}"
      f" to {high:.1f}, 7 prompts, {len(wins)} pairs)"
    ) in said


@pytest.mark.parametrize(
  "name, form",
  [
    ("pairwise", "difference"),
    ("pairwise", "averaged"),
    ("general", "embedded"),
  ],
)
def test_preference_models(name, form, place, tmp_path, capsys):
  folder, model = _checkpoint(tmp_path / "m", name, form=form)
  place.write_data(_lists(5))
  rows = _score(place, folder)
  states = _states(folder, model, rows).astype(np.float64)
  p = {k: np.asarray(x, np.float64) for k, x in model.head.params.items()}

  def logit(a, b):
    if name == "general":
      (x, y), sign = (s @ p["weight"] + p["bias"] for s in (a, b)), [1, -1]
      return sum(
        s * x[i] * y[j]
        for at in range(0, 4, 2)
        for s, i, j in ((sign[0], at, at + 1), (sign[1], at + 1, at))
      )
    skew = (a @ p["u"]) @ (b @ p["v"]) - (b @ p["u"]) @ (a @ p["v"])
    return (a - b) @ p["score"] + skew

  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  index = [i for i, row in enumerate(_lists(5)) for _ in row["scores"]]
  for i, row in enumerate(rows):
    others = [j for j in range(len(rows)) if index[j] == index[i] and j != i]
    # A skew form is as sure in both orders: 2 z, or the mean of sigmoid(z).
    times = 2 if form == "difference" else 1
    want = np.mean(
      [sigmoid(times * logit(states[i], states[j])) for j in others]
    )
    np.testing.assert_allclose(row["preference"], want, atol=1e-4)
  assert "score" not in rows[0]
  assert "preference higher for chosen: " in capsys.readouterr().out


def test_pairs_prefer_one_or_the_other(place, tmp_path, capsys):
  folder, _ = _checkpoint(tmp_path / "m", "pairwise", form="averaged")
  pairs = [
    {"prompt": f"q{i}", "chosen": "a" * (1 + i), "rejected": "b"}
    for i in range(5)
  ]
  place.write_data(pairs)
  rows = _score(place, folder)
  chosen, rejected = (
    np.array([row["preference"] for row in rows[at::2]]) for at in (0, 1)
  )
  np.testing.assert_allclose(chosen + rejected, 1, atol=1e-6)
  share = 100 * np.mean(chosen > 0.5)
  said = capsys.readouterr().out
  assert f"preference higher for chosen: {share:.1f} % (95 %" in said
  place.write_data([{"prompt": "q", "response": "a"}])
  out = place.folder / "x.parquet"
  command = ["score", f"--model={folder}", f"--data={place.data}"]
  said = place.fails([*command, f"--out={out}"])
  assert "compares responses to one prompt" in said and not out.exists()


def test_the_token_before_the_padding_is_read(place, tmp_path):
  """Where the padding is the end of sequence, the end isn't read."""
  tokenizer = data.load(_checkpoint(tmp_path / "m")[0])
  end = tokenizer.eos_id
  folder, model = _checkpoint(tmp_path / "n", pad_token_id=end)
  assert model.head.padding == end
  place.write_data([{"prompt": "q", "response": "abc"}])
  (row,) = _score(place, folder)
  assert row["tokens"][-1] == end
  row["tokens"] = row["tokens"][:-1]
  want = _states(folder, model, [row])[0] @ model.head.params["weight"]
  np.testing.assert_allclose(row["score"], want, atol=1e-4)


@pytest.mark.parametrize("case", ["gemma3", "gpt2"])
def test_prompts_are_shared_with_equal_states(case, tmp_path):
  described = json.loads(str(GOLDEN[f"reward/{case}/json"]))
  wider = {"n_positions": 64} if case == "gpt2" else {}
  shapes = described["shapes"]
  if case == "gpt2":
    shapes = shapes | {"transformer.wpe.weight": (64, 16)}
  cases.write(tmp_path, described["config"] | wider, shapes)
  model = hf.load_reward_model(tmp_path, mesh=make_mesh())
  rng = np.random.default_rng(0)
  sequences = []
  groups = [(48, 8)] * 7 + [(20, 3), (3, 2), (1, 1), (48, 20)]
  for prompt, count in groups:
    ids = rng.integers(3, 61, prompt)
    for _ in range(count):
      own = rng.integers(3, 61, rng.integers(1, 7))
      whole = np.concatenate([ids, own]).astype(np.int32)
      mask = np.arange(len(whole)) >= prompt
      sequences.append(data.EncodedSequence(whole, mask, "here"))
  order = rng.permutation(len(sequences))
  sequences = [sequences[i] for i in order]
  net, mesh = transformer(model.config), make_mesh()
  states = lambda share: last_states(
    net,
    model.params,
    model.config,
    sequences,
    mesh,
    rows=16,
    pad_id=0,
    share=share,
  )
  (alone, work), (shared, less) = states(False), states(True)
  np.testing.assert_allclose(shared, alone, atol=1e-4)
  assert less.tokens == work.tokens and less.alone == work.alone
  assert less.slots < 0.65 * work.slots
  ids = [x.ids for x in sequences[:8]]
  padded = np.stack([np.pad(x, (0, 64 - len(x))) for x in ids])
  lengths = jnp.array([len(x) for x in ids])
  rows = Sequences(jnp.asarray(padded), padded > 0, lengths)
  with jax.set_mesh(mesh):
    hidden = jax.jit(net.forward)(model.params, rows.tokens)
  np.testing.assert_allclose(shared[:8], last_hidden(hidden, rows), atol=1e-4)


def test_a_checkpoint_without_the_tail_reads_the_end(place, tmp_path):
  """A run's responses end with their end; a template may write more."""
  folder, model = _checkpoint(tmp_path / "m")
  scorer = scorers.load_scorer(str(folder))
  assert scorer.after  # the template writes a line break
  head = model.head._replace(tail=False)
  notes = hf.save_reward_model(
    model._replace(head=head), tmp_path / "n", like=folder
  )
  assert "end of the last turn" in " ".join(notes)
  bare = scorers.load_scorer(str(tmp_path / "n"))
  assert not bare.after
  turns = [{"role": "user", "content": "q"}]
  said, other = ([{"role": "assistant", "content": x}] for x in "ab")
  place.write_data([{"prompt": turns, "chosen": said, "rejected": other}])
  first, second = (
    _score(place, x)[0]["score"] for x in (folder, tmp_path / "n")
  )
  with jax.set_mesh(make_mesh()):
    for which, got in ((scorer, first), (bare, second)):
      encoded = scorers.encode(which, ["q"], ["a"])
      states = scorers.features(which, encoded, make_mesh())
      want = states[0] @ np.asarray(model.head.params["weight"])
      np.testing.assert_allclose(got, want, atol=1e-4)
  assert abs(first - second) > 1e-3
