"""FLOPs by formula are those of the programs, and of numbers done by hand."""

import jax
import jax.numpy as jnp
import pytest

from jalign import losses
from jalign.models import ModelConfig, lora, transformer
from jalign.plan import formulas
from jalign.plan.workload import Rollout, Score, Update
from jalign.sharding import by_path
from jalign.training import trainable
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import TrainState
from jalign.training.step import make_update
from jalign.types import PairBatch, Sequences
from tests.plan import products

SIZES = dict(
  vocab_size=1024,
  hidden_size=256,
  intermediate_size=384,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
)
ROWS, TOKENS = 4, 64
S = jax.ShapeDtypeStruct


def _update(c, rank=0, patterns=(), microbatches=1):
  """A DPO update, its arguments, and what the formulas are told of it."""
  model = transformer(c)
  change = lora.LoraConfig(rank, targets=("blocks/w[qv]", "blocks/down"))
  part = trainable.trainable(c, change, patterns)
  params = jax.eval_shape(model.init, jax.random.key(0))
  optimizer = make_optimizer(OptimizerConfig(), 10)

  def begin(params):
    trained = part.start(params, jax.random.key(0))
    return TrainState(jnp.int32(0), trained, optimizer.init(trained))

  sequences = Sequences(
    S((ROWS, TOKENS), jnp.int32), S((ROWS, TOKENS), bool), S((ROWS,), jnp.int32)
  )
  batch = PairBatch(sequences, S((ROWS // 2,), jnp.float32))
  update = make_update(
    make_objective(losses.dpo, model),
    optimizer,
    join=part.join,
    microbatches=microbatches,
  )
  work = Update(
    ROWS,
    TOKENS,
    microbatches,
    counted=(TOKENS - 1) / TOKENS,  # the first token has no log-prob
    reference=True,
    trained=frozenset(by_path(part.specs)) if patterns else None,
    rank=rank,
    changed=lora.targets(c, change) if rank else (),
  )
  arguments = (
    jax.eval_shape(begin, params),
    batch,
    params,
    jax.eval_shape(part.frozen, params),
  )
  return update, arguments, work


@pytest.mark.parametrize(
  ("options", "others"),
  [
    ({"remat": "none"}, {}),
    ({"remat": "block"}, {"microbatches": 2}),
    ({"remat": "block", "norm_position": "both"}, {}),
    ({"remat": "dots", "tie_word_embeddings": False}, {}),
    ({"remat": "block", "mlp_gated": False}, {}),
    ({"remat": "none"}, {"rank": 8}),
    ({"remat": "block"}, {"rank": 8}),
    ({"remat": "block"}, {"patterns": ("blocks/*",)}),
    ({"num_experts": 5, "num_experts_per_tok": 2}, {}),
  ],
)
def test_an_update_has_the_products_of_the_formula(options, others):
  c = ModelConfig(**SIZES | options)
  update, arguments, work = _update(c, **others)
  # On a CPU, attention computes all pairs and masks them.
  flops = formulas.of(c, work, block=TOKENS)
  counted = products.count(update, *arguments)
  if not work.trains("embed"):
    # The head's gradient by its weight is traced, and dropped by the compiler.
    counted -= work.rows * work.tokens * work.counted * formulas.head(c)
  assert counted == pytest.approx(flops.total, rel=1e-12)


@pytest.mark.slow
def test_the_compiler_counts_as_much_where_no_loop_hides_anything():
  c = ModelConfig(**SIZES, scan_unroll=3)
  update, arguments, work = _update(c)
  flops = formulas.of(c, work, block=TOKENS)
  counted = update.lower(*arguments).compile().cost_analysis()["flops"]
  # Of a single tile of logits the compiler computes nothing again, and what
  # isn't a product adds a few per cent.
  again = work.rows * work.tokens * work.counted * formulas.head(c)
  assert 1.0 < counted / (flops.total - again) < 1.05


def test_a_models_flops_by_hand():
  c = ModelConfig(10, 8, 16, 1, 2, 1, num_experts=4, num_experts_per_tok=2)
  # Queries 8 x 8, keys and values 8 x 4 each, outputs 8 x 8; the router 8 x 4,
  # and three products of 8 x 16 in 2 of the 4 experts.
  assert formulas.products(c) == {
    "wq": 128,
    "wk": 64,
    "wv": 64,
    "wo": 128,
    "router": 64,
    "up": 512,
    "gate": 512,
    "down": 512,
  }
  assert formulas.head(c) == 160
  # Three tokens see 1, 2 and 3 keys, in 2 heads of width 4: 4 * 2 * 4 * 6.
  assert formulas.attention(c, 3) == 192
  score = formulas.of(c, Score(rows=5, tokens=3, counted=1 / 3))
  assert score == (5 * (3 * 1984 + 192 + 160), 0, 0, 0)
  # A prompt of 3 tokens for 2 responses of 4 tokens, over a cache of 7.
  work = Rollout(prompts=1, samples=2, width=3, new=4)
  prefill = 3 * 1984 + 192 + 160
  step = 1984 + 4 * 2 * 4 * 7 + 160
  assert formulas.of(c, work).total == prefill + 8 * step
  mixture = Rollout(prompts=1, samples=2, width=3, new=4, models=2)
  assert formulas.of(c, mixture).total == 2 * formulas.of(c, work).total


def test_pairs_of_queries_and_keys():
  assert formulas.pairs(5) == 15
  assert formulas.pairs(5, window=2) == 9  # 1 + 2 + 2 + 2 + 2
  assert formulas.pairs(5, block=5) == formulas.pairs(5, 2, block=5) == 25
  assert formulas.pairs(4, block=2) == 12  # 2 x 2, 2 x 4
  assert formulas.pairs(6, window=2, block=2) == 4 + 8 + 8
  slow = sum(max(0, i - j) < 3 for i in range(9) for j in range(i + 1))
  assert formulas.pairs(9, window=3) == slow


@pytest.mark.parametrize("counts", [True, False])
def test_six_flops_a_parameter_and_token(counts):
  """A trained weight costs 6 FLOPs a token: 2 forward and 4 backward."""
  c = ModelConfig(**SIZES, tie_word_embeddings=False, remat="none")
  flops = formulas.of(c, Update(ROWS, TOKENS, counted=float(counts)))
  layers = 3 * (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 384)
  weights = layers + counts * 1024 * 256
  attention = 3 * 4 * 256 * (64 * 65 // 2)
  assert flops.useful == 3 * ROWS * (2 * TOKENS * weights + attention)
  assert flops.recomputed == 2 * ROWS * TOKENS * 1024 * 256 * counts
