"""`jalign sample`: prompts in, responses with their log-probs out."""

import json

import jax
import numpy as np
import pytest

from jalign import cli, data, logprobs
from jalign.errors import UserError
from jalign.experiment.commands import generation, prompts, samples
from jalign.models import hf, transformer
from tests.experiment.checkpoint_test import start  # noqa: F401

ROWS = [
  {"prompt": "q1", "chosen": "a", "rejected": "b"},
  {"prompt": [{"role": "user", "content": "q2"}], "extra": 1},
  {"prompt": "a longer question than the others"},
]


def _run(model, *flags):
  cli.main(["sample", f"--model={model}", "--max_new_tokens=5", *flags])


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def asked(tmp_path):
  path = tmp_path / "prompts.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  return path


def _check_logps(model, rows):
  """Checks log-probs of every row by full logits, and texts by tokens."""
  config, params = hf.load(model)
  net, tokenizer = transformer(config), data.load(model)
  prompts = [tokenizer.encode(row["text"]) for row in rows]
  whole = [p + row["tokens"] for p, row in zip(prompts, rows)]
  width = max(map(len, whole))
  tokens = np.array([x + [0] * (width - len(x)) for x in whole], np.int32)
  forward = lambda p, x: logprobs.logits(net.head(p), net.forward(p, x))
  z = np.asarray(jax.jit(forward)(params, tokens), np.float64)
  logps = z - np.log(np.exp(z).sum(-1, keepdims=True))
  for row, prompt, all_logps in zip(rows, prompts, logps):
    said = row["tokens"]
    at = np.arange(len(prompt) - 1, len(prompt) + len(said) - 1)
    want = all_logps[at, said]
    np.testing.assert_allclose(row["token_logprobs"], want, atol=1e-4)
    np.testing.assert_allclose(row["logprob"], want.sum(), atol=1e-3)
    assert row["finished"] == (said[-1] in tokenizer.end_ids)
    assert row["response"] == tokenizer.decode(
      said[:-1] if row["finished"] else said
    )


def test_rows_of_a_file(start, asked, tmp_path, capsys, monkeypatch):  # noqa: F811
  out = tmp_path / "out.jsonl"
  flags = [f"--data={asked}", "--source=prompts", "--count=3", "--slots=2"]
  monkeypatch.setattr(samples, "_PART", 2)  # parts of 3 rows
  _run(start, *flags, f"--out={out}")
  rows, said = _rows(out), capsys.readouterr().err
  assert [row["sample"] for row in rows] == [0, 1, 2] * 3
  assert [row["prompt"] for row in rows[::3]] == [row["prompt"] for row in ROWS]
  assert rows[0]["text"] == (
    "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n"
  )
  assert rows[3]["source"] == f"{asked}:2" and rows[0]["model"] == str(start)
  assert rows[0]["settings"]["max_new_tokens"] == 5 and rows[0]["seed"] == 0
  assert f"chat template: {start}" in said
  assert "temperature 1, max_new_tokens 5" in said
  cut = sum(not row["finished"] for row in rows)
  assert cut > 0 and f"{cut} of 9 responses were cut at 5 tokens" in said
  assert len({tuple(row["tokens"]) for row in rows}) == 9  # all samples differ

  _check_logps(start, rows)

  # After a kill in the second part, the other rows come out the same.
  left = tmp_path / "left.jsonl"
  lines = out.read_text().splitlines(keepends=True)
  begun = tmp_path / "left.jsonl.unfinished"
  begun.write_text("".join(lines[:4]) + lines[4][:20])
  _run(start, *flags, f"--out={left}")
  assert left.read_bytes() == out.read_bytes() and not begun.exists()
  assert "goes on after 3 of 9 responses" in capsys.readouterr().err

  # A file begun with other settings is neither continued nor removed.
  begun.write_text("".join(lines[:4]))
  left.unlink()
  with pytest.raises(SystemExit):
    _run(start, *flags, f"--out={left}", "--seed=1")
  said = " ".join(capsys.readouterr().err.split())
  assert "these differ: seed" in said and len(_rows(begun)) == 4
  with pytest.raises(SystemExit):
    _run(start, *flags, f"--out={out}")
  assert "is there already" in " ".join(capsys.readouterr().err.split())

  # A row's draws don't depend on the count, nor on other rows.
  flags[2] = "--count=1"
  _run(start, *flags, f"--out={left}2")
  few = _rows(tmp_path / "left.jsonl2")
  assert [row["tokens"] for row in few] == [row["tokens"] for row in rows[::3]]


def test_a_prompt_of_the_command_line(start, capsys):  # noqa: F811
  _run(start, "--prompt=q1", "--temperature=0")
  first = capsys.readouterr()
  assert first.out.startswith("> q1\n") and "temperature 0" in first.err
  # Greedy draws don't depend on the seed, but on the prompt's template.
  _run(start, "--prompt=q1", "--temperature=0", "--seed=4611686018427387904")
  assert capsys.readouterr().out == first.out
  _run(start, "--prompt=q1", "--temperature=0", "--template=none")
  other = capsys.readouterr()
  assert other.out != first.out
  assert "prompts go to the model as they are" in other.err
  text = "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n"
  _run(start, f"--prompt={text}", "--temperature=0", "--template=none")
  assert capsys.readouterr().out.splitlines()[-1] == first.out.splitlines()[-1]


def test_flags_out_of_range(start, tmp_path, capsys):  # noqa: F811
  for flag, said in (
    ("--count=0", "--count: 0"),
    ("--count=-1", "--count: -1"),
    ("--seed=-1", "--seed: -1"),
    ("--seed=9223372036854775808", "--seed: 9223372036854775808"),
    ("--max_new_tokens=0", "--max_new_tokens: 0"),
    ("--top_p=2", "--top_p: 2"),
    ("--slots=0", "--slots: 0"),
    ("--prompt= ", "prompt 2: the prompt is empty"),
    ("--data=x", "not both"),
  ):
    with pytest.raises(SystemExit):
      _run(start, "--prompt=q", flag)
    assert said in " ".join(capsys.readouterr().err.split())


def _settings(tmp_path, there, **given):
  (tmp_path / "generation_config.json").write_text(json.dumps(there))
  return generation.settings_of(tmp_path, given)


def test_a_flag_stands_in_for_a_setting_that_is_no_number(tmp_path):
  with pytest.raises(UserError, match="top_k is 'x'.*or give --top_k"):
    _settings(tmp_path, {"top_k": "x"})
  assert _settings(tmp_path, {"top_k": "x"}, top_k=3)[0].top_k == 3


def test_settings_of_generation_config(tmp_path):
  plain, lines = generation.settings_of(tmp_path, {})
  assert plain == (1.0, 0, 1.0, 0.0, 1.0, 64)
  there = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": True}
  settings, (line,) = _settings(tmp_path, there, top_k=3)
  assert settings == plain._replace(temperature=0.6, top_k=3, top_p=0.95)
  assert "temperature 0.6 (of " in line and "top_k 3," in line
  greedy = there | {"do_sample": False, "max_new_tokens": 7}
  settings, _ = _settings(tmp_path, greedy)
  assert settings == plain._replace(temperature=0.0, max_new_tokens=7)
  settings, _ = _settings(tmp_path, greedy, top_p=0.5)  # draws were asked for
  assert settings.temperature == 0.6 and settings.top_p == 0.5
  settings, _ = _settings(tmp_path, there, temperature=0.0)
  assert settings == plain._replace(temperature=0.0)
  _, lines = _settings(tmp_path, {"num_beams": 4, "typical_p": 1.0})
  assert "num_beams, which is not applied" in lines[1]
  for bad in ({"top_p": "0.9"}, {"top_k": 1.5}, {"temperature": -1}):
    with pytest.raises(Exception, match=next(iter(bad))):
      _settings(tmp_path, bad)


def test_prompts_of_every_kind_of_file(start, tmp_path):  # noqa: F811
  template = data.load_template(start)
  opened = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"

  def read(row, template=template):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (entry,), lines = prompts.read_prompts(str(path), "", template)
    assert entry.record.source == f"{path}:1"
    return entry, lines

  asked = [{"role": "user", "content": "q"}]
  said = [{"role": "assistant", "content": "a"}]
  tools = [{"type": "function", "function": {"name": "f"}}]
  entry, _ = read({"messages": asked + said, "tools": tools})
  assert (entry.prompt, entry.more) == (asked, {"tools": tools})
  assert entry.record.prompt == opened
  entry, _ = read({"prompt": asked, "chosen": said, "rejected": "b"})
  assert (entry.prompt, entry.record.prompt) == (asked, opened)
  entry, _ = read(
    {"chosen": asked + said, "rejected": asked + [said[0] | {"content": "b"}]}
  )
  assert (entry.prompt, entry.record.prompt) == (asked, opened)
  entry, _ = read({"prompt": "q", "response": "a", "tools": tools})
  assert (entry.prompt, entry.more) == ("q", {"tools": tools})
  assert entry.record.prompt == opened
  entry, _ = read({"prompt": "q", "response": "a"}, None)
  assert entry.record.prompt == "q"
  with pytest.raises(UserError, match="no chat template"):
    read({"messages": asked + said}, None)
  with pytest.raises(UserError, match="no chat template"):
    read({"prompt": asked}, None)
  # Transcripts are written in full.
  text = "\n\nHuman: q\n\nAssistant:"
  entry, lines = read({"chosen": f"{text} a", "rejected": f"{text} b"})
  assert entry.record.prompt == text and "no template is applied" in lines[1]
