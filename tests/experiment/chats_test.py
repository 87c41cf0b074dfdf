"""Chats of a run: templates that rewrite turns, or open a thought."""

import json

import pytest

from jalign import data
from jalign.experiment.commands.score_data import read_responses
from jalign.experiment.config.parse import defaults, parse
from jalign.experiment.data.prepare import prepare
from tests.data import families

TURNS = 4


@pytest.fixture
def prepared(request, tmp_path):
  """Data prepared from ten chats, with a template given as a file."""
  make, template = request.param
  folder = make(tmp_path / "tokenizer", None)
  (tmp_path / "chat.jinja").write_text(template)
  roles = ("user", "assistant")
  rows = [
    {
      "messages": [
        {"role": roles[n % 2], "content": f"t{n} of {i}"} for n in range(TURNS)
      ]
    }
    for i in range(10)
  ]
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  config = defaults()
  config["tokenizer"] |= {"path": str(folder)}
  config["data"] |= {
    "source": "conversations",
    "path": str(path),
    "template": str(tmp_path / "chat.jinja"),
    "eval_fraction": 0.3,
    "buckets": (512,),
    "max_prompt_tokens": 256,
  }
  return prepare(parse(config), tmp_path / "run", None)


def _said(prepared, sequence):
  ids = sequence.ids[sequence.mask].tolist()
  return prepared.tokenizer.backend.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
  "prepared", [(families.byte_level, families.QWEN)], indirect=True
)
def test_history_that_is_rewritten(prepared):
  main = prepared.main
  conversations = len(main.train_prompts)
  assert len(main.train) == 2 * conversations
  assert f"{conversations} conversations as {2 * conversations}" in (
    prepared.summary()
  )
  assert main.facts["train"]["parted"] == [conversations, 2 * conversations]
  assert len({example.source for example in main.train}) == len(main.train)
  assert len(main.lengths("sequences", "train")) == len(main.train)


@pytest.mark.parametrize(
  "prepared", [(families.byte_level, families.THINKING)], indirect=True
)
def test_an_opened_thought(prepared):
  assert "generation prompt opens '<think>\\n'" in prepared.summary()
  for sequence in prepared.main.train:
    assert "think" not in _said(prepared, sequence)
  # Samples begin at the same place as the responses in training.
  for prompt in prepared.main.eval_prompts:
    assert prompt.text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
  "prepared", [(families.phi, families.PHI)], indirect=True
)
def test_ends_of_a_template_from_a_file(prepared):
  for sequence in prepared.main.train:
    assert _said(prepared, sequence).count("<|end|>") == TURNS / 2
    assert _said(prepared, sequence).endswith("<|end|>")
  ends = [
    prepared.tokenizer.backend.id_to_token(i)
    for i in prepared.tokenizer.end_ids
  ]
  assert ends == ["<|end|>", "<|endoftext|>"]
  assert "opens" not in prepared.summary()


def test_what_is_scored_turn_by_turn_is_said(tmp_path):
  folder = families.byte_level(tmp_path / "model", families.QWEN)
  (folder / "config.json").write_text("{}")  # as a checkpoint has it
  roles = ("user", "assistant")
  row = {
    "messages": [
      {"role": roles[n % 2], "content": f"t{n}"} for n in range(TURNS)
    ]
  }
  path = tmp_path / "rows.jsonl"
  path.write_text(json.dumps(row) + "\n")
  reading = read_responses(str(path), "", "", folder, data.load(folder))
  assert "1 conversations as 2 demonstrations" in reading.lines[-1]
  thought = "<think>\n\n</think>\n\n"
  assert [answer.response for answer in reading.responses] == [
    thought + "t1<|im_end|>",
    thought + "t3<|im_end|>",
  ]
