"""Samples end where the tokenizer's responses end."""

import jax
import jax.numpy as jnp
import pytest

from jalign import data
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import sample_texts
from jalign.models import from_apply
from tests.data import families


def _script(said, width):
  """A model that gives the tokens of a script, whatever it reads."""
  script = jnp.asarray(said)

  def apply(params, tokens):
    following = script[jnp.arange(tokens.shape[1]) % len(said)]
    logits = params * jax.nn.one_hot(following, width)
    return jnp.broadcast_to(logits, (*tokens.shape, width))

  return from_apply(lambda key: jnp.float32(50.0), apply)


@pytest.mark.parametrize("end", ["<end_of_turn>", "<eos>"])
def test_every_end_stops_a_response(tmp_path, end):
  tokenizer = data.load(families.gemma(tmp_path))
  records = [data.PromptRecord("a", "f:1", "a")]
  prompts = data.encode_prompts(records, tokenizer)
  start = len(prompts[0].ids) - 1  # the column that gives the first token
  said = [0] * start + tokenizer.encode(f"yo{end}\n<start_of_turn>user")
  samples = sample_texts(
    _script(said + [0] * (64 - len(said)), tokenizer.vocab_size),
    jnp.float32(50.0),
    tokenizer,
    prompts,
    SamplerSettings(per_prompt=1, max_new_tokens=16),
    seed=0,
    rows=1,
  )
  assert samples.texts == ["yo"]
  assert samples.tokens.tolist() == [3] and samples.finished == 1
