"""The programs of stages on the policy's own samples."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jalign import decode
from jalign.decode.pieces import Pieces
from jalign.errors import UserError, said
from jalign.experiment.config.algorithms import algorithm_of
from jalign.experiment.config.ranges import draw_of, drawing_of
from jalign.experiment.config.settings import SamplerSettings
from jalign.experiment.sampling import ROWS
from jalign.online import Cast, DecoderRun, decoder_runs, try_out
from jalign.online.iterate import score_tokens, value_tokens
from jalign.plan.programs import Program, StagePlan, lowering, update
from jalign.plan.workload import Rollout, Score, Step
from jalign.sharding import BATCH_AXES, axis_size, laid, rows_at
from jalign.types import Params, Sequences


def online(p: StagePlan, sample: SamplerSettings) -> Iterator[Program]:
  """Yields the programs of a stage on samples.

  Args:
    p: the stage.
    sample: how held-out responses are sampled.
  """
  stage, algorithm = p.stage, algorithm_of(p.stage)
  try:
    reference = algorithm.reference(p.state.carry, p.start)
    cast = Cast(p.state.params, reference, p.state.carry)
    runs = decoder_runs(
      algorithm.draws,
      p.assembly.model,
      cast,
      mix_ref=stage.mix_ref,
      whole=p.assembly.whole,
    )
  except TypeError as e:
    raise UserError(
      f"the models of {stage.algorithm} are computed from what it keeps, and"
      f" only shapes of that are known here ({said(e)}).",
      where=f"config.{stage.name}.algorithm",
      remedy="Plan another algorithm with as many draws and models.",
    ) from e
  for number, run in enumerate(runs):
    name = "rollout" if len(runs) == 1 else f"rollout {number + 1}"
    yield from _rollout(
      p,
      run,
      name,
      stage.batch_size,
      stage.max_new_tokens,
      drawing_of(stage.drawing),
      stage.slots,
    )
  rows = stage.batch_size * len(algorithm.draws)
  for scorer in algorithm.scored:
    scoring = p.assembly.whole(scorer.params(cast))
    yield _scores(p, scorer.name, score_tokens, scoring, rows)
  if algorithm.critic:
    critic = p.assembly.critic(p.state.params)
    yield _scores(p, "critic", value_tokens, critic, rows)
  batch = try_out(
    algorithm,
    p.state.params,
    prompts=stage.batch_size,
    columns=_width(p) + stage.max_new_tokens,
    start=p.start,
  )
  batch = laid(batch, jax.tree.map(lambda x: rows_at(x, p.mesh), batch))
  of_response = stage.max_new_tokens / (_width(p) + stage.max_new_tokens)
  yield update(p, batch, of_response)._replace(runs=algorithm.updates.total)
  yield samples(p, sample)


def samples(p: StagePlan, sample: SamplerSettings) -> Program:
  """The program that samples held-out responses.

  Args:
    p: the stage.
    sample: how held-out responses are sampled.
  """
  ways = axis_size(p.mesh, BATCH_AXES)
  rows = -(-ROWS // ways) * ways
  policy = p.assembly.policy(p.state.params)
  run = DecoderRun([0], p.assembly.model, policy, None, (), False)
  draw, new = draw_of(sample), sample.max_new_tokens
  made = _rollout(p, run, "samples", rows, new, draw)
  return next(made)._replace(runs=0)


def _scores(
  p: StagePlan, name: str, program: Any, params: Params, rows: int
) -> Program:
  """A model's log-probs, or a critic's values, of a round's responses."""
  width = _width(p) + p.stage.max_new_tokens
  sequences = Sequences(
    _rows(p, (rows, width), jnp.int32),
    _rows(p, (rows, width), jnp.bool_),
    _rows(p, (rows,), jnp.int32),
  )
  return Program(
    f"{p.stage.name}: {name}",
    lowering(program, p.assembly.model, params, sequences),
    lambda: {name: params, "batch": sequences},
    p.resident,
    Score(rows, width, p.stage.max_new_tokens / width),
  )


def _width(p: StagePlan) -> int:
  """Tokens of the longest prompt."""
  return max(len(prompt.ids) for prompt in p.given.dataset.train_prompts)


def _rows(p: StagePlan, shape: tuple[int, ...], dtype: Any) -> Any:
  """An array of rows, laid over the mesh."""
  x = jax.ShapeDtypeStruct(shape, dtype)
  return x.update(sharding=rows_at(x, p.mesh))


def _rollout(
  p: StagePlan,
  run: DecoderRun,
  name: str,
  prompts: int,
  new: int,
  draw: decode.Sampler,
  slots: int = 0,
) -> Iterator[Program]:
  """Yields the program of a run of the decoder, and its pieces."""
  samples, width = len(run.places), _width(p)
  rows = prompts * samples
  params = run.params(_rows(p, (rows,), jnp.float32) if run.shares else None)
  key = jax.eval_shape(lambda: jax.random.key(0))
  arguments = (
    run.policy,
    params,
    _rows(p, (prompts, width), jnp.int32),
    _rows(p, (prompts,), jnp.int32),
    _rows(p, (rows,), key.dtype),
  )
  options: dict[str, Any] = dict(
    max_new_tokens=new,
    stop_ids=p.given.tokenizer.end_ids,
    pad_id=p.given.tokenizer.pad_id,
    draw=decode.sampler(temperature=0) if run.greedy else draw,
    samples=samples,
  )
  models = 2 if run.shares else 1
  whole = {"parameters": run.drawing, "reference": run.reference}
  trees = lambda: whole
  tensor = p.given.decode_tensor
  waves = -(-rows // slots) if slots else 1
  yield Program(
    f"{p.stage.name}: {name}",
    functools.partial(decode.lower, *arguments, **options, slots=slots or None),
    trees,
    p.resident,
    Rollout(prompts, samples, width, new, models, slots),
    trips=max(waves * new - 1, 1),
    mesh=decode.regrouped(p.mesh, tensor) if tensor else None,
  )
  pieces = Pieces(*arguments, **options)
  decoded = lambda: {"decoding weights": pieces.prepared}
  with_cache = lambda: decoded() | {"cache": pieces.cache}
  programs: list[tuple[str, Any, Any]] = [
    ("prepare", trees, None),
    ("prefill", decoded, Rollout(prompts, 1, width, 0, models)),
    ("step", with_cache, Step(rows, width + new, models)),
  ]
  for piece, of, work in programs:
    yield Program(
      f"{p.stage.name}: {piece} of {name}",
      pieces.programs[piece],
      of,
      p.resident,
      work,
      runs=0,
    )
