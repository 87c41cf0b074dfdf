"""Reward models, read and written, give transformers' own scores."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jalign.errors import UserError
from jalign.models import HEADS, hf, last_hidden, lora, transformer
from jalign.models.hf import StoredHead
from jalign.types import Sequences
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN

LENGTHS = (cases.PADDED != 0).sum(-1)


@pytest.fixture(params=cases.REWARDS)
def reward(request, tmp_path):
  """(case, folder, golden values)."""
  return request.param, *_write(tmp_path / "reward", request.param)


def _write(folder, case="llama"):
  """A checkpoint's folder, and what describes the checkpoint."""
  described = json.loads(str(GOLDEN[f"reward/{case}/json"]))
  cases.write(folder, described["config"], described["shapes"])
  return folder, described


def _rows(tokens=cases.PADDED, lengths=LENGTHS):
  tokens = jnp.asarray(tokens)
  mask = jnp.zeros(tokens.shape, bool)
  return Sequences(tokens, mask, jnp.asarray(lengths))


def _features(model, rows):
  hidden = transformer(model.config).forward(model.params, rows.tokens)
  return last_hidden(hidden, hf.unpadded(rows, model.head.padding))


def _scores(model, rows=None):
  rows = _rows() if rows is None else rows
  head, features = model.head, _features(model, rows)
  functions = head.functions(model.config.hidden_size)
  if functions.score is not None:
    return functions.score(head.params, features)
  return functions.scores(head.params, features)


def test_scores_are_those_of_transformers(reward):
  case, folder, _ = reward
  want = GOLDEN[f"reward/{case}/scores"]
  assert np.abs(want).min() > 0.01
  model = hf.load_reward_model(folder)
  assert (model.head.name, model.head.names) == ("scalar", ("LABEL_0",))
  np.testing.assert_allclose(_scores(model), want, atol=1e-4)


@pytest.fixture(params=cases.LABELS)
def labels(request, tmp_path):
  """(case, folder) of three labels, whose padding is the end of sequence."""
  described = json.loads(str(GOLDEN[f"labels/{request.param}/json"]))
  folder = tmp_path / "labels"
  cases.write(folder, described["config"], described["shapes"])
  return request.param, folder


def test_scores_of_several_labels(labels):
  case, folder = labels
  model = hf.load_reward_model(folder)
  assert model.head.name == "objectives" and model.head.padding == 2
  assert model.head.names == ("helpful", "harmless", "honest")
  want = GOLDEN[f"labels/{case}/scores"]
  rows = _rows(cases.ENDED, [6, 6])
  np.testing.assert_allclose(_scores(model, rows), want, atol=1e-4)
  # Of a row with its end, transformers reads the token before the end.
  rows = _rows(cases.ENDED, [5, 6])
  np.testing.assert_allclose(_scores(model, rows), want, atol=1e-4)
  last = model._replace(head=model.head._replace(padding=None))
  assert np.abs(_scores(last, rows)[0] - want[0]).max() > 0.1


def test_rows_end_where_transformers_reads():
  tokens = np.array([[2, 2, 2], [5, 2, 7], [5, 2, 2], [5, 6, 7]], np.int32)
  rows = _rows(tokens, [3, 2, 3, 0])
  assert hf.unpadded(rows, 2).lengths.tolist() == [1, 1, 1, 1]
  assert hf.unpadded(rows, 7).lengths.tolist() == [3, 2, 3, 1]
  assert hf.unpadded(rows, None).lengths.tolist() == [3, 2, 3, 0]


def test_out_and_in_again(reward, tmp_path):
  _, folder, described = reward
  model = hf.load_reward_model(folder)
  notes = hf.save_reward_model(model, tmp_path / "out", like=folder)
  assert not notes and not list((tmp_path / "out").glob("jalign*"))
  _same(hf.load_reward_model(tmp_path / "out"), model)
  written = json.loads((tmp_path / "out/config.json").read_text())
  assert written["architectures"] == described["config"]["architectures"]
  with hf.open_shards(tmp_path / "out") as shards:
    assert shards.files.keys() == described["shapes"].keys()


def _same(a, b):
  assert a.config == b.config
  assert a.head._replace(params=0) == b.head._replace(params=0)
  jax.tree.map(
    np.testing.assert_array_equal,
    (a.params, a.head.params),
    (b.params, b.head.params),
  )


def test_labels_out_and_in_again(labels, tmp_path):
  _, folder = labels
  model = hf.load_reward_model(folder)
  hf.save_reward_model(model, tmp_path / "out", like=folder, shard_bytes=10**4)
  assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
  _same(hf.load_reward_model(tmp_path / "out"), model)
  for given, dtype in (("bfloat16", jnp.bfloat16), ("float16", jnp.float16)):
    half = hf.load_reward_model(folder, param_dtype=given)
    assert half.head.params["weight"].dtype == jnp.float32
    notes = hf.save_reward_model(half, tmp_path / given, like=folder)
    assert "precision of " + given in " ".join(notes)
    again = hf.load_reward_model(tmp_path / given)
    _same(again, half)
    assert again.params["norm"].dtype == dtype


def _random(name, **settings):
  """A head with a name, and with random numbers for parameters."""
  template = HEADS[name](16, **settings).init(jax.random.key(0))
  draw = lambda at, x: cases.weight(jax.tree_util.keystr(at), x.shape)
  params = jax.tree_util.tree_map_with_path(draw, template)
  return StoredHead(name, settings, jax.tree.map(jnp.asarray, params), (), 0)


HEADS_OF_OURS = {
  "scalar": _random("scalar")._replace(names=("reward",)),
  "objectives": _random("objectives", count=2)._replace(names=("a", "b")),
  "one": _random("objectives", count=1)._replace(names=("a",)),
  "pairwise": _random("pairwise", rank=2)._replace(form="averaged"),
  "general": _random("general", width=4)._replace(form="embedded"),
}


@pytest.mark.parametrize("kind", HEADS_OF_OURS)
def test_heads_that_transformers_lacks(kind, tmp_path):
  """What transformers computes is the head's linear part."""
  folder, _ = _write(tmp_path / "m")
  head = HEADS_OF_OURS[kind]
  model = hf.load_reward_model(folder)._replace(head=head)
  notes = hf.save_reward_model(model, tmp_path / "out", like=folder)
  assert "transformers doesn't see" in notes[0]
  again = hf.load_reward_model(tmp_path / "out")
  _same(again, model)
  features = _features(model, _rows())
  for file in ("jalign_head.json", "jalign_head.safetensors"):
    (tmp_path / "out" / file).unlink()
  theirs = hf.load_reward_model(tmp_path / "out")
  got = np.reshape(_scores(theirs), (2, -1))
  functions, params = head.functions(16), head.params
  if kind == "pairwise":
    score, u, v = got[:, 0], got[:, 1:3], got[:, 3:]
    a, b = features[:1], features[1:]
    got = score[0] - score[1] + u[0] @ v[1] - v[0] @ u[1]
    want = functions.compare(params, a, b)[0]
    assert theirs.head.names == ("score", "u_1", "u_2", "v_1", "v_2")
  elif kind == "general":
    got, want = got + params["bias"], functions.embed(params, features)
  else:
    give = functions.score or functions.scores
    got = got + params["bias"]
    want = np.reshape(give(params, features), (2, -1))
    assert theirs.head.names == head.names
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_constant_is_kept_and_said(tmp_path):
  folder, _ = _write(tmp_path / "m")
  model = hf.load_reward_model(folder)
  shifted = model.head.params | {"bias": jnp.float32(-0.5)}
  shifted = model._replace(head=model.head._replace(params=shifted))
  (note,) = hf.save_reward_model(shifted, tmp_path / "out", like=folder)
  assert "constant that is added to the score (-0.5)" in note
  again = hf.load_reward_model(tmp_path / "out")
  np.testing.assert_allclose(_scores(again), _scores(model) - 0.5, rtol=1e-6)


def test_a_bias_in_the_files(tmp_path, capsys):
  folder, described = _write(tmp_path / "m")
  want = _scores(hf.load_reward_model(folder))
  shapes = described["shapes"] | {"score.bias": (1,)}
  cases.write(folder, described["config"], shapes)
  model = hf.load_reward_model(folder)
  bias = cases.weight("score.bias", (1,))
  np.testing.assert_allclose(_scores(model), want + bias, rtol=1e-5)
  assert "score.bias is added" in capsys.readouterr().out


class _Tokenizer:
  bos_id, eos_id, pad_id, end_ids = 1, 2, 0, (4, 2)

  def save(self, path):
    pass


@pytest.mark.parametrize(
  "pad, ends, written",
  [(0, (2,), 0), (2, (2,), None), (4, (4, 2), None), (4, (2,), 4)],
)
def test_padding_never_hides_the_end(pad, ends, written, tmp_path):
  """A head that reads ends has to be opened with another padding, or none."""
  folder, _ = _write(tmp_path / "m")
  model = hf.load_reward_model(folder)
  model = model._replace(head=model.head._replace(padding=None))
  tokenizer = _Tokenizer()
  tokenizer.pad_id, tokenizer.end_ids = pad, ends
  notes = hf.save_reward_model(model, tmp_path / "out", tokenizer=tokenizer)
  assert hf.load_reward_model(tmp_path / "out").head.padding == written
  assert ("would skip" in " ".join(notes)) == (written is None)
  config = json.loads((folder / "config.json").read_text())
  config |= {"pad_token_id": pad, "eos_token_id": [*ends]}
  (folder / "config.json").write_text(json.dumps(config))
  hf.save_reward_model(model, tmp_path / "like", like=folder)
  assert hf.load_reward_model(tmp_path / "like").head.padding == written


def test_transformers_opens_an_export(reward, tmp_path):
  case, folder, _ = reward
  model = hf.load_reward_model(folder)
  hf.save_reward_model(model, tmp_path / "out", like=folder)
  got = _of_transformers(tmp_path / "out", cases.PADDED)[:, 0]
  np.testing.assert_allclose(got, GOLDEN[f"reward/{case}/scores"], atol=1e-4)


def test_transformers_opens_labels(labels, tmp_path):
  case, folder = labels
  model = hf.load_reward_model(folder)
  hf.save_reward_model(model, tmp_path / "out", like=folder)
  got = _of_transformers(tmp_path / "out", cases.ENDED)
  np.testing.assert_allclose(got, GOLDEN[f"labels/{case}/scores"], atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_transformers_opens_half_precision(labels, dtype, tmp_path):
  case, folder = labels
  model = hf.load_reward_model(folder, param_dtype=dtype)
  hf.save_reward_model(model, tmp_path / "out", like=folder)
  got = _of_transformers(tmp_path / "out", cases.ENDED)
  scale = np.abs(GOLDEN[f"labels/{case}/scores"]).max()
  np.testing.assert_allclose(
    got, GOLDEN[f"labels/{case}/scores"], atol=0.05 * scale
  )
  ours = _scores(
    hf.load_reward_model(tmp_path / "out"), _rows(cases.ENDED, [6, 6])
  )
  np.testing.assert_allclose(ours, got, atol=0.05 * scale)


def _of_transformers(folder, rows):
  """[B, M] scores that transformers computes."""
  pytest.importorskip("torch", reason="PyTorch isn't installed")
  import torch
  import transformers

  auto = transformers.AutoModelForSequenceClassification
  model, said = auto.from_pretrained(folder, output_loading_info=True)
  assert not said["missing_keys"] and not said["unexpected_keys"], said
  tokens = torch.tensor(rows, dtype=torch.long)
  with torch.no_grad():
    mask = tokens != 0
    return model.eval()(tokens, attention_mask=mask).logits.float().numpy()


@pytest.mark.parametrize("case", cases.REWARD_ADAPTERS)
def test_adapters_of_reward_models(case, tmp_path):
  described = json.loads(str(GOLDEN[f"reward_adapter/{case}/json"]))
  change = tmp_path / "adapter"
  cases.write_adapter(change, described["config"], described["shapes"])
  base = json.loads(str(GOLDEN[f"{case}/json"]))
  folder = cases.write(tmp_path / "base", base["config"], base["shapes"])
  model, settings, delta = hf.load_reward_adapter(change, folder)
  merged = lora.merge(lora.join(settings, delta, model.params))
  got = _scores(model._replace(params=merged))
  want = GOLDEN[f"reward_adapter/{case}/scores"]
  np.testing.assert_allclose(got, want, atol=2e-4)
  assert np.abs(_scores(model) - want).max() > 0.05
  with pytest.raises(UserError, match="load_reward_adapter"):
    hf.load_adapter(change, model.config)
  # Over a reward model the head is the adapter's, and the names the base's.
  shapes = {k: v for k, v in base["shapes"].items() if k != "lm_head.weight"}
  name = "GPT2" if case == "gpt2" else "Qwen3"
  config = base["config"] | {
    "architectures": [f"{name}ForSequenceClassification"],
    "id2label": {"0": "x", "1": "y"},
  }
  shapes["score.weight"] = (2, 16)
  cases.write(tmp_path / "rm", config, shapes)
  over, _, _ = hf.load_reward_adapter(change, tmp_path / "rm")
  assert over.head.names == ("x", "y")
  jax.tree.map(
    np.testing.assert_array_equal, over.head.params, model.head.params
  )


def test_adapters_without_their_head(tmp_path):
  described = json.loads(str(GOLDEN["reward_adapter/qwen3/json"]))
  base = json.loads(str(GOLDEN["qwen3/json"]))
  folder = cases.write(tmp_path / "base", base["config"], base["shapes"])
  name = "base_model.model.score.weight"
  for shape, said in ((None, "missing"), ((2, 8), r"\(2, 8\)")):
    shapes = {k: v for k, v in described["shapes"].items() if k != name}
    shapes |= {} if shape is None else {name: shape}
    change = tmp_path / f"adapter {said}"
    cases.write_adapter(change, described["config"], shapes)
    with pytest.raises(UserError, match=f"score's matrix is .*{said}"):
      hf.load_reward_adapter(change, folder)
  config = described["config"] | {"task_type": "CAUSAL_LM"}
  cases.write_adapter(tmp_path / "lm", config, described["shapes"])
  with pytest.raises(UserError, match="modules_to_save"):
    hf.load_reward_adapter(tmp_path / "lm", folder)
  plain = json.loads(str(GOLDEN["adapter/qwen3/json"]))
  cases.write_adapter(tmp_path / "plain", plain["config"], plain["shapes"])
  with pytest.raises(UserError, match="load_adapter loads it"):
    hf.load_reward_adapter(tmp_path / "plain", folder)


def test_what_is_no_reward_model(tmp_path):
  folder, described = _write(tmp_path / "m")
  with pytest.raises(UserError, match="load_reward_model"):
    hf.load(folder)
  shapes = described["shapes"] | {"score.weight": (3, 16)}
  cases.write(folder, described["config"], shapes)
  with pytest.raises(UserError, match=r"score.weight is \(3, 16\)"):
    hf.load_reward_model(folder)
  for labels, said in (
    ({"0": "a", "2": "b", "1": "a"}, "'a' more than once"),
    ({"1": "a", "2": "b", "3": "c"}, "id2label"),
  ):
    config = described["config"] | {"id2label": labels}
    cases.write(folder, config, shapes)
    with pytest.raises(UserError, match=said):
      hf.load_reward_model(folder)


def test_damaged_heads(tmp_path):
  folder, _ = _write(tmp_path / "m")
  model = hf.load_reward_model(folder)
  model = model._replace(head=HEADS_OF_OURS["pairwise"])
  out = tmp_path / "out"
  hf.save_reward_model(model, out, like=folder)
  file, tensors = out / "jalign_head.json", out / "jalign_head.safetensors"
  text, stored = file.read_text(), tensors.read_bytes()
  good = json.loads(text)
  for bad, said in (
    ("{", "can't be read"),
    ("[]", "doesn't describe a head"),
    (json.dumps(good | {"format": 2}), "newer version"),
    (json.dumps(good | {"head": "cubic"}), "doesn't describe a head"),
    (json.dumps(good | {"more": 1}), "doesn't describe a head"),
    (json.dumps(good | {"form": "cubic"}), "doesn't describe a head"),
    (json.dumps(good | {"form": ""}), "form of the head pairwise's"),
    (json.dumps(good | {"settings": {"rank": 0}}), "don't fit"),
    (json.dumps(good | {"settings": {"width": 2}}), "don't fit"),
    (json.dumps(good | {"settings": {"rank": 3}}), "of the shapes"),
  ):
    file.write_text(bad)
    with pytest.raises(UserError, match=said):
      hf.load_reward_model(out)
  file.write_text(text)
  tensors.write_bytes(stored[:-9])
  with pytest.raises(UserError, match="can't be read"):
    hf.load_reward_model(out)
  trained = safetensors.numpy.load(stored)
  trained["u"] = trained["u"] + np.float32(1e-3)
  tensors.write_bytes(safetensors.numpy.save(trained))
  with pytest.raises(UserError, match="may have been trained since"):
    hf.load_reward_model(out)
  with pytest.raises(UserError, match="name of its own"):
    head = HEADS_OF_OURS["objectives"]._replace(names=("a", "a"))
    hf.save_reward_model(model._replace(head=head), tmp_path / "x")
  large = model.head.params | {"u": 1e6 * model.head.params["u"]}
  half = hf.load_reward_model(folder, param_dtype="float16")
  half = half._replace(head=model.head._replace(params=large))
  with pytest.raises(UserError, match="aren't finite in float16"):
    hf.save_reward_model(half, tmp_path / "x")
