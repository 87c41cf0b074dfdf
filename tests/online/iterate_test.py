"""Online alignment: who is sampled, what is chosen, what gets likelier."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.data import PromptBatch
from jalign.decode import generate
from jalign.feedback import from_batch, from_preference, from_reward
from jalign.online import ALGORITHMS, make_round
from jalign.online.draws import MIXTURE, POLICY, REFERENCE, Cast, draw_responses
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny

VOCAB, WIDTH, NEW, LIKED = 8, 3, 2, 5


@functools.cache
def _model():
  # A small spread, so that every token has a chance.
  return tiny(
    vocab_size=VOCAB, num_hidden_layers=1, initializer_range=0.1, remat="none"
  )[1:]


def _prompts(count, fill=0):
  rng = np.random.default_rng(0)
  lengths = rng.integers(1, WIDTH + 1, count)
  tokens = rng.integers(1, VOCAB, (count, WIDTH))
  tokens = np.where(np.arange(WIDTH) < lengths[:, None], tokens, 0)
  weights = np.ones(count, np.float32)
  if fill:
    weights[-fill:] = 0
  texts = [f"prompt {i}" for i in range(count)]
  return PromptBatch(
    tokens.astype(np.int32), lengths.astype(np.int32), weights, texts
  )


def _decode(ids):
  return " ".join(map(str, ids))


def _round(name, annotate, **options):
  options = {"max_new_tokens": NEW, "stop_ids": ()} | options
  return make_round(ALGORITHMS[name], _model()[0], annotate, _decode, **options)


def _likes(token, sign=1.0, scale=4.0):
  count = lambda prompt, response: sign * response.split().count(str(token))
  return from_reward(count, scale=scale)


def _same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def _rows(tree, order):
  return jax.tree.map(lambda x: np.asarray(x)[order], tree)


def test_one_draw_orders_a_pair_with_the_annotators_probability():
  count, wanted = 512, 0.8
  annotate = from_preference(lambda prompt, a, b: wanted)
  play = _round("online_dpo", annotate)
  _, params = _model()
  prompts = _prompts(count)
  kept = []
  for seed in range(2):
    got = play(params, None, prompts, jax.random.key(seed))
    assert got.batches[0].preference is None
    sampled = got.rollout.sequences
    # A pair has both whole rows of its prompt, in one order or the other.
    chosen_first = np.all(
      np.asarray(got.batches[0].sequences.tokens)[0::2]
      == np.asarray(sampled.tokens)[0::2],
      axis=1,
    )
    order = np.arange(2 * count).reshape(-1, 2)
    order = np.where(chosen_first[:, None], order, order[:, ::-1]).reshape(-1)
    _same(_rows(sampled, order), got.batches[0].sequences)
    different = np.any(
      np.asarray(sampled.tokens)[0::2] != np.asarray(sampled.tokens)[1::2],
      axis=1,
    )
    assert different.sum() > 400
    share = chosen_first[different].mean()
    error = np.sqrt(wanted * (1 - wanted) / different.sum())
    assert abs(share - wanted) < 4 * error
    kept.append((chosen_first, np.asarray(sampled.tokens)))
  assert not np.array_equal(kept[0][0], kept[1][0])
  assert not np.array_equal(kept[0][1], kept[1][1])


@pytest.mark.parametrize("preference", [1.0, 0.0])
def test_a_certain_preference_always_orders(preference):
  play = _round("online_dpo", from_preference(lambda *_: preference))
  got = play(_model()[1], None, _prompts(16), jax.random.key(0))
  order = np.arange(32).reshape(-1, 2)
  order = (order if preference else order[:, ::-1]).reshape(-1)
  _same(_rows(got.rollout.sequences, order), got.batches[0].sequences)


@pytest.mark.parametrize("name", ["online_ipo", "ipo_md"])
def test_a_soft_pair_has_the_likelier_response_first(name):
  judge = lambda prompt, a, b: 0.9 if a < b else 0.2 if a > b else 0.5
  play = _round(name, from_preference(judge))
  model, params = _model()
  reference = model.init(jax.random.key(4))
  got = play(params, reference, _prompts(16), jax.random.key(0))
  sampled = got.rollout.sequences
  responses = [
    _decode(np.asarray(row)[np.asarray(live)])
    for row, live in zip(sampled.tokens, sampled.mask)
  ]
  said = np.array(
    [judge("", *ab) for ab in zip(responses[0::2], responses[1::2])]
  )
  order = np.arange(32).reshape(-1, 2)
  order = np.where(said[:, None] >= 0.5, order, order[:, ::-1]).reshape(-1)
  _same(_rows(sampled, order), got.batches[0].sequences)
  want = np.maximum(said, 1 - said)
  np.testing.assert_allclose(got.batches[0].preference, want, rtol=1e-6)
  assert {0.2, 0.9} <= set(said)


def test_the_annotator_sees_prompts_and_responses_without_the_stop_token():
  seen = []

  def annotate(prompts, a, b):
    seen.append((list(prompts), list(a), list(b)))
    return np.full(len(prompts), 0.5)

  stop = LIKED
  play = _round(
    "online_ipo", from_batch(annotate), stop_ids=(stop,), max_new_tokens=6
  )
  got = play(_model()[1], None, _prompts(32), jax.random.key(0))
  ((prompts, a, b),) = seen
  assert prompts == [f"prompt {i}" for i in range(32)]
  rows = [
    np.asarray(row)[np.asarray(live)].tolist()
    for row, live in zip(
      got.rollout.sequences.tokens, got.rollout.sequences.mask
    )
  ]
  ended = [row[-1] == stop for row in rows]
  assert 0 < sum(ended) < len(rows)
  texts = [_decode(r[:-1] if e else r) for r, e in zip(rows, ended)]
  assert (a, b) == (texts[0::2], texts[1::2])
  # Both responses belong to the same prompt.
  width = np.asarray(got.rollout.sequences.tokens)
  for i, length in enumerate(np.asarray(got.rollout.prompt_lengths)[0::2]):
    np.testing.assert_array_equal(
      width[2 * i, :length], width[2 * i + 1, :length]
    )
  assert got.values["rollouts/finished_share"] == pytest.approx(np.mean(ended))
  assert got.values["rollouts/response_tokens"] == pytest.approx(
    np.mean([len(r) for r in rows])
  )


def test_fill_rows_have_no_weight_and_count_nowhere():
  judge = lambda prompt, a, b: 0.9 if int(prompt.split()[1]) < 5 else 0.5
  play = _round("online_ipo", from_preference(judge))
  got = play(_model()[1], None, _prompts(8, fill=3), jax.random.key(0))
  np.testing.assert_array_equal(
    got.batches[0].weights, [1, 1, 1, 1, 1, 0, 0, 0]
  )
  assert got.values["rollouts/preference_certainty"] == pytest.approx(0.8)
  assert got.values["rollouts/response_tokens"] == NEW


def test_a_draw_has_its_own_weight_in_the_mixture():
  """Of weight 1 the mixture is the reference, and the policy has weight 0."""
  model, params = _model()
  reference = jax.tree.map(lambda x: 3 * x, model.init(jax.random.key(9)))
  drawn = [
    draw_responses(
      draws,
      model,
      Cast(params, reference, ()),
      _prompts(8),
      jax.random.key(1),
      max_new_tokens=NEW,
      stop_ids=(),
      mix_ref=1.0,
    ).sequences.tokens
    for draws in ((POLICY, MIXTURE), (POLICY, REFERENCE), (POLICY, POLICY))
  ]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert not np.array_equal(drawn[0], drawn[2])


def test_equal_texts_are_counted_among_the_live_prompts():
  judge = from_preference(lambda prompt, a, b: 0.5)
  options = {"max_new_tokens": NEW, "stop_ids": ()}
  share = "rollouts/identical_pairs_share"
  for decode, wanted in ((lambda ids: "a", 1.0), (_decode, 0.0)):
    row = ALGORITHMS["online_ipo"]
    play = make_round(row, _model()[0], judge, decode, **options)
    got = play(_model()[1], None, _prompts(8, fill=3), jax.random.key(0))
    assert got.values[share] == wanted


def test_the_reward_is_asked_once_a_response_and_reported():
  """Mean and spread are over live rows, and over a prompt's two responses."""
  seen = []

  def reward(prompt, response):
    seen.append((prompt, response))
    return float(int(response.split()[0]) + 10 * int(prompt.split()[1]))

  play = _round("online_dpo", from_reward(reward))
  prompts = _prompts(8, fill=3)
  got = play(_model()[1], None, prompts, jax.random.key(0))
  rows = np.asarray(got.rollout.sequences.tokens)
  start = np.asarray(got.rollout.prompt_lengths)
  first = rows[np.arange(16), start]
  assert sorted(seen) == sorted(
    (f"prompt {i // 2}", _decode(rows[i, start[i] : start[i] + NEW]))
    for i in range(16)
  )
  rewards = (first + 10 * (np.arange(16) // 2))[:10].astype(float)
  pairs = rewards.reshape(5, 2)
  want = {
    "rollouts/reward_mean": rewards.mean(),
    "rollouts/reward_std": rewards.std(ddof=1),
    "rollouts/reward_std_within_prompt": np.sqrt(
      np.mean((pairs[:, 0] - pairs[:, 1]) ** 2 / 2)
    ),
  }
  assert (
    want["rollouts/reward_std_within_prompt"] < want["rollouts/reward_std"] / 3
  )
  assert {k: got.values[k] for k in want} == pytest.approx(want)
  plain = _round("nash_md", from_preference(lambda p, a, b: 0.75))
  values = plain(_model()[1], _model()[1], prompts, jax.random.key(0)).values
  assert not any("reward" in name for name in values)
  assert values["rollouts/win_rate_over_mixture"] == pytest.approx(0.75)
  assert "rollouts/win_rate_over_mixture" not in got.values


def test_ipo_md_samples_the_mixture():
  """At its ends it equals the policy and the reference, with equal keys."""
  model, params = _model()
  reference = model.init(jax.random.key(4))
  annotate = from_preference(lambda *_: 0.5)
  prompts, key = _prompts(16), jax.random.key(7)
  tokens, lengths, _, texts = prompts
  keys = jax.random.split(jax.random.split(key)[0], 2 * len(texts))

  def alone(params):
    return generate(
      model,
      params,
      jnp.repeat(tokens, 2, axis=0),
      jnp.repeat(lengths, 2, axis=0),
      keys,
      max_new_tokens=NEW,
      stop_ids=(),
    )

  ends = {0.0: alone(params), 1.0: alone(reference)}
  drawn = {
    mix: _round("ipo_md", annotate, mix_ref=mix)(
      params, reference, prompts, key
    ).rollout
    for mix in (0.0, 0.5, 1.0)
  }
  for mix, want in ends.items():
    _same(drawn[mix].sequences, want.sequences)
    np.testing.assert_allclose(drawn[mix].logps, want.logps, atol=1e-5)
  assert not np.array_equal(
    ends[0.0].sequences.tokens, ends[1.0].sequences.tokens
  )
  # In between, recorded log-probs are the mixture's, and not of either model.
  between = drawn[0.5]
  assert not np.allclose(between.logps, between.model_logps[0], atol=1e-3)
  assert not np.allclose(between.logps, between.model_logps[1], atol=1e-3)
  # Online algorithms without a mixture don't look at the reference.
  online = _round("online_ipo", annotate)(params, None, prompts, key)
  _same(online.rollout.sequences, ends[0.0].sequences)


@functools.cache
def _update(name):
  loss = functools.partial(
    getattr(losses, ALGORITHMS[name].loss),
    **({"beta": 0.1} if name == "online_dpo" else {"tau": 0.1}),
  )
  objective = make_objective(loss, _model()[0])
  optimizer = optax.adam(1e-2)
  return optimizer, make_update(objective, optimizer)


@jax.jit
def _liked(params):
  """Mean probability of the rewarded token right after the prompts."""
  model, _ = _model()
  tokens, lengths, _, _ = _prompts(32)
  hidden = model.forward(params, tokens)
  last = hidden[jnp.arange(len(tokens)), lengths - 1]
  logits = last @ model.head(params).weight.T
  return jnp.mean(jax.nn.softmax(logits)[:, LIKED])


@pytest.mark.parametrize("name", ["online_dpo", "ipo_md", "nash_md"])
def test_what_is_rewarded_becomes_likelier(name):
  """The opposite reward makes the same token rarer."""
  _, params = _model()
  before, after = _liked(params), {}
  optimizer, update = _update(name)
  prompts = _prompts(32)
  for sign in (1.0, -1.0):
    play = _round(name, _likes(LIKED, sign))
    state = init_state(params, optimizer)
    for step in range(20):
      got = play(state.params, params, prompts, jax.random.key(step))
      state, _ = update(state, got.batches[0], params)
    after[sign] = _liked(state.params)
  assert after[1.0] > 1.5 * before
  assert after[-1.0] < before / 1.5
