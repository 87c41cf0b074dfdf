"""Reward models, read and written, give transformers' own scores."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.models import hf, last_hidden, scalar, transformer
from jalign.types import Sequences
from tests.models.hf import cases
from tests.models.hf.parity_test import GOLDEN

LENGTHS = (cases.PADDED != 0).sum(-1)


@pytest.fixture(params=cases.REWARDS)
def reward(request, tmp_path):
  """(case, folder, golden values)."""
  described = json.loads(str(GOLDEN[f"reward/{request.param}/json"]))
  folder = cases.write(
    tmp_path / "reward", described["config"], described["shapes"]
  )
  return request.param, folder, described


def _scores(config, params, head):
  model = transformer(config)
  hidden = model.forward(params, jnp.asarray(cases.PADDED))
  mask = jnp.zeros(cases.PADDED.shape, bool)
  rows = Sequences(jnp.asarray(cases.PADDED), mask, jnp.asarray(LENGTHS))
  return scalar(config.hidden_size).score(head, last_hidden(hidden, rows))


def test_scores_are_those_of_transformers(reward):
  case, folder, _ = reward
  want = GOLDEN[f"reward/{case}/scores"]
  assert np.abs(want).min() > 0.01
  np.testing.assert_allclose(
    _scores(*hf.load_reward_model(folder)), want, atol=1e-4
  )


def test_out_and_in_again(reward, tmp_path):
  _, folder, described = reward
  config, params, head = hf.load_reward_model(folder)
  hf.save(params, config, tmp_path / "out", like=folder, score_head=head)
  again = hf.load_reward_model(tmp_path / "out")
  assert again[0] == config
  jax.tree.map(np.testing.assert_array_equal, again[1:], (params, head))
  written = json.loads((tmp_path / "out/config.json").read_text())
  assert written["architectures"] == described["config"]["architectures"]
  with hf.open_shards(tmp_path / "out") as shards:
    assert shards.files.keys() == described["shapes"].keys()


def test_transformers_opens_an_export(reward, tmp_path):
  pytest.importorskip("torch", reason="PyTorch isn't installed")
  import torch
  import transformers

  case, folder, _ = reward
  config, params, head = hf.load_reward_model(folder)
  hf.save(params, config, tmp_path / "out", like=folder, score_head=head)
  auto = transformers.AutoModelForSequenceClassification
  model = auto.from_pretrained(tmp_path / "out").eval()
  tokens = torch.tensor(cases.PADDED, dtype=torch.long)
  with torch.no_grad():
    got = model(tokens, attention_mask=tokens != 0).logits[:, 0].numpy()
  np.testing.assert_allclose(got, GOLDEN[f"reward/{case}/scores"], atol=1e-4)


def test_what_is_no_reward_model(reward, tmp_path):
  _, folder, described = reward
  with pytest.raises(UserError, match="load_reward_model"):
    hf.load(folder)
  config, params, head = hf.load_reward_model(folder)
  with pytest.raises(UserError, match="bias"):
    hf.save(
      params, config, tmp_path / "out", score_head=head | {"bias": jnp.ones(())}
    )
  shapes = described["shapes"] | {"score.weight": (3, config.hidden_size)}
  cases.write(folder, described["config"], shapes)
  with pytest.raises(UserError, match=r"score.weight is \(3, 16\)"):
    hf.load_reward_model(folder)
