"""`jalign score`: its numbers are those of the full logits."""

import functools
import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jalign import cli, data, logprobs
from jalign.errors import UserError
from jalign.experiment.commands import score
from jalign.models import hf, transformer
from tests.data import chat_tokenizer
from tests.experiment.checkpoint_test import _rows
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN


@pytest.fixture
def model(tmp_path):
  return _model(tmp_path / "model")


def _model(folder, scale=1.0):
  described = json.loads(str(GOLDEN["qwen3/json"]))
  config = described["config"] | {"vocab_size": 272}
  shapes = described["shapes"] | {"model.embed_tokens.weight": (272, 16)}
  cases.write(folder, config, shapes)
  chat_tokenizer.write(folder)
  if scale != 1:
    config, params = hf.load(folder)
    params["norm"] = scale * params["norm"]
    for file in folder.glob("model*"):
      file.unlink()
    hf.save(params, config, folder / "x")
    (folder / "x/model.safetensors").rename(folder / "model.safetensors")
  return folder


def _scores(place, model, *flags):
  out = place.folder / "scores.parquet"
  command = ["score", f"--model={model}", f"--data={place.data}"]
  cli.main([*command, f"--out={out}", *flags])
  return pq.read_table(out).to_pylist()


@functools.cache
def _logits(folder):
  """From tokens to the logits of a checkpoint, in one program."""
  config, params = hf.load(folder)
  net = transformer(config)
  whole = lambda tokens: logprobs.logits(
    net.head(params), net.forward(params, tokens)
  )
  return jax.jit(whole)


def _oracle(folder, row):
  """Log-probs and entropies of a row's tokens, from float64 logits."""
  text = data.load_template(folder).render(row["prompt"], prompt=True)
  tokenizer = data.load(folder)

  def token_values(response):
    prompt = tokenizer.encode(text)
    said = [*tokenizer.encode(response[0]["content"]), tokenizer.eos_id]
    tokens = np.array([prompt + said], np.int32)
    z = np.asarray(_logits(folder)(tokens), np.float64)[0]
    logps = z - np.log(np.exp(z).sum(-1, keepdims=True))
    at = np.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
    entropy = -(np.exp(logps) * logps).sum(-1)
    return said, logps[at, said], entropy[at], len(prompt)

  return {name: token_values(row[name]) for name in ("chosen", "rejected")}


def test_numbers_of_chats(place, model, capsys):
  rows = list(_rows(9))
  place.write_data(rows)
  scores = _scores(place, model, "--batch_size=4")
  assert len(scores) == 18
  for i, row in enumerate(rows):
    want = _oracle(model, row)
    for got in scores[2 * i : 2 * i + 2]:
      assert got["source"].endswith(f":{i + 1}")
      tokens, logps, entropy, prompt = want[got["name"]]
      assert got["tokens"] == tokens and got["prompt_tokens"] == prompt
      assert got["response_tokens"] == len(tokens)
      np.testing.assert_allclose(got["token_logprobs"], logps, atol=1e-4)
      np.testing.assert_allclose(got["token_entropies"], entropy, atol=1e-4)
      np.testing.assert_allclose(got["logprob"], logps.sum(), atol=1e-3)
      mean = got["logprob_per_token"], got["entropy"]
      np.testing.assert_allclose(
        mean, (logps.mean(), entropy.mean()), atol=1e-4
      )
  said = capsys.readouterr().out
  nats = sum(r["logprob"] for r in scores)
  total = sum(r["response_tokens"] for r in scores)
  assert f"18 responses, {total} tokens: {nats / total:.4f} nats" in said
  share = np.mean(
    [a["logprob"] > b["logprob"] for a, b in zip(scores[::2], scores[1::2])]
  )
  assert f"chosen likelier than rejected: {100 * share:.1f} %" in said
  assert not list(place.folder.glob(".jalign-*"))


def test_implicit_rewards(place, model, tmp_path, capsys):
  place.write_data(_rows(3))
  other = _model(tmp_path / "other", scale=0.5)
  scores = _scores(place, model, f"--reference={other}", "--beta=0.3")
  own = _scores(place, other)
  for got, ref in zip(scores, own):
    np.testing.assert_allclose(got["ref_logprob"], ref["logprob"], rtol=1e-6)
    np.testing.assert_allclose(
      got["ref_token_logprobs"], ref["token_logprobs"], rtol=1e-5
    )
    want = 0.3 * (got["logprob"] - ref["logprob"])
    assert abs(want) > 0.01
    np.testing.assert_allclose(got["implicit_reward"], want, rtol=1e-4)
  rewards = np.array([r["implicit_reward"] for r in scores])
  share = 100 * np.mean(rewards[::2] > rewards[1::2])
  assert f"higher for chosen: {share:.1f} %" in capsys.readouterr().out
  same = _scores(place, model, f"--reference={model}")
  assert {r["implicit_reward"] for r in same} == {0.0}


def test_a_run_scores_as_its_export(place, plain, tmp_path):
  run = plain / "run"
  target, theirs = tmp_path / "export", tmp_path / "export.partial"
  theirs.mkdir()
  (theirs / "notes").write_text("mine")
  convert = ["convert", f"--model={run}"]
  (tmp_path / "link").symlink_to(run)
  for inside in (run / "export", tmp_path / "link" / "export"):
    assert "lies in --model=" in place.fails([*convert, f"--to={inside}"])
  for taken in (run, theirs, place.data):
    assert f"--to={taken}: " in place.fails([*convert, f"--to={taken}"])
  assert not (run / "export").exists()
  cli.main([*convert, f"--to={target}"])
  assert (theirs / "notes").read_text() == "mine"
  merge = ["merge", f"--model={target}", f"--adapter={target}"]
  said = place.fails([*merge, f"--to={target / 'merged'}"])
  assert f"lies in --model={target}, which is read" in said
  for a, b in zip(_scores(place, run), _scores(place, target)):
    assert a["tokens"] == b["tokens"]
    np.testing.assert_allclose(a["logprob"], b["logprob"], rtol=1e-5)


def test_other_shapes_of_data(place, model):
  demo = {"prompt": "q:", "completion": " aa"}
  place.write_data([demo])
  assert [r["name"] for r in _scores(place, model)] == ["response"]
  turns = [
    {"role": role, "content": text}
    for role, text in (("user", "q"), ("assistant", "a")) * 2
  ]
  place.write_data([{"messages": turns}])
  (row,) = _scores(place, model)
  assert row["name"] == "conversation" and row["response_tokens"] == 4


def test_what_made_a_table_is_in_it(place, model):
  rows = list(_rows(2))
  place.write_data(rows)
  scores = _scores(place, model, f"--reference={model}", "--beta=0.3")
  text = data.load_template(model).render(rows[0]["prompt"], prompt=True)
  assert [row["prompt"] for row in scores[:2]] == [text] * 2
  said = [row["response"].removesuffix("<|im_end|>") for row in scores[:2]]
  assert said == ["a", "b"]
  assert {row["model"] for row in scores} == {str(model)}
  metadata = pq.read_schema(place.folder / "scores.parquet").metadata
  facts = json.loads(metadata[b"jalign"])
  assert facts["beta"] == 0.3 and facts["template"] == str(model)
  assert facts["parameters"] == facts["reference_parameters"]
  assert (facts["reference"], facts["data"]) == (str(model), str(place.data))


def test_texts_are_written_as_is_asked(place, model, capsys):
  place.write_data([{"prompt": "q", "chosen": "a", "rejected": "b"}])
  bare = _scores(place, model)
  assert "texts go to the model as they are" in capsys.readouterr().out
  chat = _scores(place, model, f"--template={model}")
  assert bare[0]["prompt"] == "q" and bare[0]["tokens"] == chat[0]["tokens"]
  assert chat[0]["prompt"].startswith("<|im_start|>user\nq<|im_end|>")
  assert f"chat template: {model}" in capsys.readouterr().out


def test_a_reward_model_scores(place, tmp_path, capsys):
  described = json.loads(str(GOLDEN["reward/llama/json"]))
  config = described["config"] | {"vocab_size": 272}
  wide = {"model.embed_tokens.weight": (272, 16)}
  folder = cases.write(tmp_path / "m", config, described["shapes"] | wide)
  chat_tokenizer.write(folder)
  rows = list(_rows(3))
  place.write_data(rows)
  scores = _scores(place, folder)
  # `apply_chat_template` writes the conversation for transformers' model.
  config, params, head = hf.load_reward_model(folder)
  weight = head.params["weight"]
  template, tokenizer = data.load_template(folder), data.load(folder)
  forward = jax.jit(transformer(config).forward)
  want = []
  for row in rows:
    for name in ("chosen", "rejected"):
      ids = tokenizer.encode(template.render([*row["prompt"], *row[name]]))
      hidden = forward(params, np.array([ids], np.int32))
      want.append(float(hidden[0, -1] @ weight))
  np.testing.assert_allclose([r["score"] for r in scores], want, atol=1e-4)
  assert np.ptp(want) > 0.01 and "logprob" not in scores[0]
  assert [r["response_tokens"] for r in scores[:2]] == [2, 2]  # with the end
  share = 100 * np.mean(np.array(want)[::2] > np.array(want)[1::2])
  assert f"score higher for chosen: {share:.1f} %" in capsys.readouterr().out
  plain = _scores(place, folder, "--template=plain")  # writes no end itself
  texts = [f"user: {r['prompt'][0]['content']}\n\nassistant:" for r in rows]
  assert [r["prompt"] for r in plain[::2]] == texts
  command = ["score", f"--model={folder}", f"--data={place.data}"]
  command.append(f"--out={place.folder / 'y.parquet'}")
  said = place.fails([*command, f"--reference={folder}"])
  assert "--reference" in said


def test_tokens_without_an_embedding(place, model, capsys):
  place.write_data(_rows(1))
  described = json.loads((model / "config.json").read_text())
  shapes = json.loads(str(GOLDEN["qwen3/json"]))["shapes"]
  shapes |= {"model.embed_tokens.weight": (250, 16)}
  cases.write(model, described | {"vocab_size": 250}, shapes)
  out = place.folder / "x.parquet"
  command = [f"--model={model}", f"--data={place.data}", f"--out={out}"]
  for name in ("score", "sample"):
    with pytest.raises(SystemExit):
      cli.main([name, *command])
    said = " ".join(capsys.readouterr().err.split())
    assert "258 tokens" in said and "embeddings of 250" in said
  assert not out.exists()


def test_bad_inputs(place, plain, model, tmp_path):
  out = f"--out={place.folder / 'x.parquet'}"
  command = ["score", f"--model={model}", f"--data={place.data}", out]
  assert "no such folder" in place.fails([*command, "--model=./nowhere"])
  assert "--batch_size" in place.fails([*command, "--batch_size=0"])
  assert "nowhere" in place.fails([*command, "--data=nowhere.jsonl"])
  run = plain / "run"
  said = place.fails([*command, f"--reference={run}"])
  assert str(run) in said and "another tokenizer" in said
  place.write_data([{"prompt": "q:"}])
  assert "no response" in place.fails(command)
  assert not (place.folder / "x.parquet").exists()
  (place.folder / "file").write_text("")
  place.write_data(_rows(2))
  inside = f"--out={place.folder / 'file' / 'x.parquet'}"
  assert "can't be written (Not a directory" in place.fails([*command, inside])
  content = place.data.read_bytes()
  said = place.fails([*command, f"--out={place.data}"])
  assert f"is --data={place.data}, which is read" in said
  (place.folder / "notes.md").write_text("mine")
  said = place.fails([*command, f"--out={place.folder / 'notes.md'}"])
  assert "is there already and is no table of scores" in said
  assert (place.folder / "notes.md").read_text() == "mine"
  assert place.data.read_bytes() == content


def test_bad_rows_are_left_out_where_that_is_asked(place, model, capsys):
  rows = [{"prompt": "q:", "response": r} for r in ("a", "", "b")]
  place.write_data(rows)
  command = ["score", f"--model={model}", f"--data={place.data}"]
  said = place.fails([*command, f"--out={place.folder / 'x.parquet'}"])
  assert "pairs.jsonl:2" in said and "--skip_bad_rows" in said
  scored = _scores(place, model, "--skip_bad_rows")
  assert [row["response"] for row in scored] == ["a", "b"]
  said = capsys.readouterr().out
  assert "skipped 1: 1 with an empty response (line 2)" in said


def test_a_checkpoint_is_no_run_to_evaluate(place, model):
  said = place.fails(["evaluate", f"--model={model}"])
  assert f"{model}: this is a checkpoint, not a run." in said


def test_scores_that_are_no_numbers(place, tmp_path):
  """Finite weights give activations that overflow."""
  damaged = _model(tmp_path / "damaged", scale=1e38)
  with pytest.raises(UserError, match=r"of \d+ responses aren't finite"):
    score.score(str(damaged), str(place.data), tmp_path / "out.parquet")
  assert not (tmp_path / "out.parquet").exists()
  with pytest.raises(SystemExit):
    cli.main(["sample", f"--model={damaged}", "--prompt=q"])
