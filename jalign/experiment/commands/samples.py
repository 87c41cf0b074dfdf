"""`jalign sample`: responses of a run or a checkpoint to many prompts.

Rows are drawn in parts, and written to the file as they are drawn. A row's
response depends on the seed, on its prompt's number, and on its own number
among the responses to that prompt. Parts are cut at the same places whether or
not a command was stopped in between, so that a command which continues gives
what the stopped one would have given.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign import data
from jalign.decode import Sampler, generate
from jalign.errors import UserError
from jalign.evaluation.finite import check_finite
from jalign.experiment.commands.generation import settings_of
from jalign.experiment.commands.prompts import (
  Asked,
  read_prompts,
  typed_prompts,
)
from jalign.experiment.commands.sample_file import unfinished
from jalign.experiment.config.streams import stream
from jalign.experiment.disk.kept import ended, named, template_for
from jalign.experiment.disk.start import is_checkpoint
from jalign.experiment.policies import Loaded, check_policy, load_policy
from jalign.files import check_output
from jalign.models import hf
from jalign.online import response_texts
from jalign.sharding import batch_ways, fetch, make_mesh
from jalign.training import reference
from jalign.training.progress import Progress

_PART = 8  # rows of a part per slot; slots are idle at the end of a part

Row = dict[str, Any]


class Request(NamedTuple):
  """What `jalign sample` is asked for.

  Attributes:
    model: a run or a checkpoint.
    prompts: texts, if there is no `data`.
    data: file of prompts; "" for none.
    source: name of the file's reader; "" guesses it.
    columns: the file's names for the source's fields.
    template: chat template, as `kept.template_for` takes it.
    each: number of responses to each prompt.
    seed: seed of the draws.
    slots: number of rows that are decoded at once.
    given: fields of `generation.Generation` given on the command line.
  """

  model: str
  prompts: Sequence[str] = ()
  data: str = ""
  source: str = ""
  columns: dict[str, str] | None = None
  template: str = ""
  each: int = 1
  seed: int = 0
  slots: int = 32
  given: dict[str, Any] = {}


def sample(
  request: Request,
  out: pathlib.Path | None,
  say: Callable[[str], None],
  show: Callable[[list[Row]], None],
) -> None:
  """Samples responses to prompts.

  Args:
    request: what is asked for.
    out: JSON lines to write, a row per response: "prompt" as it was given (and
      "tools", if the row has them), "text" as the model read it, "response",
      "logprob" under the model and "drawn_logprob" under the draw (nats, summed
      over all of the response's tokens, including the end), "tokens" and
      "token_logprobs", whether it "finished" or was cut, "sample" (its number),
      "source" (place of the prompt), "model", "parameters" (their hash),
      "template", "seed" and "settings". None writes nothing.
    say: called with lines that say what is done.
    show: called with rows as they come, both those read again and those drawn.

  Raises:
    UserError: something can't be read or written, a flag is out of its range,
      or the file belongs to another command.
  """
  for name, value in (("count", request.each), ("slots", request.slots)):
    if value < 1:
      raise UserError("the value must be at least 1.", where=f"--{name}")
  if not 0 <= request.seed < 2**63:
    raise UserError("the value must be in [0, 2^63).", where="--seed")
  if out is not None:
    inputs = {"--data": request.data} if request.data else {}
    check_output(out, "--out", {"--model": request.model, **inputs})
    if out.exists():
      raise UserError(
        "the file is there already.",
        where=f"--out={out}",
        remedy="Name a new file.",
      )
  folder = hf.resolve(request.model)
  check_policy(folder)
  texts = folder if is_checkpoint(folder) else folder / "tokenizer"
  settings, lines = settings_of(texts, request.given)
  template = template_for(request.template, folder)
  if request.data:
    asked, more = read_prompts(
      request.data, request.source, template, request.columns
    )
    lines += more
  else:
    asked = typed_prompts(request.prompts, template)
  for line in (*lines, _on_template(template, request.template)):
    say(line)
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    loaded = load_policy(request.model, mesh)
    tokenizer = ended(loaded.tokenizer, template)
    encoded = data.encode_prompts([ask.record for ask in asked], tokenizer)
    _check_lengths(encoded, settings.max_new_tokens, loaded)
    facts = {
      "model": request.model,
      "parameters": reference.fingerprint(loaded.params, ())[:16],
      "template": named(template),
      "seed": request.seed,
      "settings": settings._asdict(),
    }
    planned = [
      _planned(ask, prompt, k, facts)
      for ask, prompt in zip(asked, encoded)
      for k in range(request.each)
    ]
    draw = _drawing(
      loaded, tokenizer, encoded, request, settings.max_new_tokens,
      settings.draw(),
    )  # fmt: skip
    parts = _parts(len(planned), request.slots)
    empty = cut = 0

    def take(rows: list[Row]) -> None:
      nonlocal empty, cut
      show(rows)
      empty += sum(not row["response"].strip() for row in rows)
      cut += sum(not row["finished"] for row in rows)

    with (
      unfinished(out, planned, parts) as (there, write),
      Progress(
        "samples", "response", len(planned), initial=len(there)
      ) as progress,
    ):
      if there:
        say(f"goes on after {len(there)} of {len(planned)} responses")
        take(there)
      for first, last in parts:
        if last <= len(there):
          continue
        drawn = draw(first, last)
        rows = [a | b for a, b in zip(planned[first:last], drawn)]
        write(rows)
        take(rows)
        progress.update(len(rows))
  total = len(planned)
  if empty:
    say(f"{empty} of {total} responses are empty")
  if cut:
    say(
      f"{cut} of {total} responses were cut at {settings.max_new_tokens} tokens"
      " (--max_new_tokens)"
    )
  if out is not None:
    say(f"{total} responses to {len(asked)} prompts -> {out}")


def _planned(ask: Asked, prompt: data.EncodedPrompt, k: int, facts: Row) -> Row:
  """The part of a row that is known before it is drawn."""
  return {
    "prompt": ask.prompt,
    **ask.more,
    "text": prompt.written,
    "sample": k,
    "source": prompt.source,
    **facts,
  }


def _parts(rows: int, slots: int) -> list[tuple[int, int]]:
  """(first row, last row + 1) of parts of one size, except the last part."""
  count = -(-rows // (_PART * slots))
  size = -(-rows // count)
  return [(i, min(i + size, rows)) for i in range(0, rows, size)]


def _drawing(
  loaded: Loaded,
  tokenizer: data.Tokenizer,
  encoded: Sequence[data.EncodedPrompt],
  request: Request,
  max_new_tokens: int,
  draw: Sampler,
) -> Callable[[int, int], list[Row]]:
  """Makes `(first row, last row + 1) -> rows with responses`."""
  count = request.each
  size = _parts(len(encoded) * count, request.slots)[0][1]
  padded = -(-size // batch_ways()) * batch_ways()  # which the mesh divides
  root = jax.random.key(stream(request.seed, "sample"))

  def draw_part(first: int, last: int) -> list[Row]:
    # The last part is filled up with its own rows, so that one program serves.
    at = first + np.arange(padded) % (last - first)
    batch = data.collate_prompts(
      [encoded[i // count] for i in at.tolist()], pad_id=tokenizer.pad_id
    )
    rollout = generate(
      loaded.model,
      loaded.params,
      batch.tokens,
      batch.lengths,
      _keys(root, jnp.asarray(at // count), jnp.asarray(at % count)),
      max_new_tokens=max_new_tokens,
      stop_ids=tokenizer.end_ids,
      pad_id=tokenizer.pad_id,
      draw=draw,
      slots=request.slots,
    )
    responses = response_texts(rollout, tokenizer.decode, tokenizer.end_ids)
    tokens, mask, own, drawn, finished = fetch(
      (
        rollout.sequences.tokens,
        rollout.sequences.mask,
        rollout.model_logps[0],
        rollout.logps,
        rollout.finished,
      )
    )
    rows = []
    for i in range(last - first):
      live = mask[i]
      rows.append(
        {
          "response": responses[i],
          "logprob": float(np.sum(own[i][live], dtype=np.float64)),
          "drawn_logprob": float(np.sum(drawn[i][live], dtype=np.float64)),
          "finished": bool(finished[i]),
          "tokens": tokens[i][live].tolist(),
          "token_logprobs": [float(str(x)) for x in own[i][live]],
        }
      )
    sources = [encoded[i // count].source for i in range(first, last)]
    check_finite([row["logprob"] for row in rows], sources, request.model)
    return rows

  return draw_part


@jax.jit
def _keys(root, prompts, samples):
  """A key for each row, from the numbers of its prompt and of its response."""
  fold = lambda i, k: jax.random.fold_in(jax.random.fold_in(root, i), k)
  return jax.vmap(fold)(prompts, samples)


def _check_lengths(encoded, max_new_tokens: int, loaded: Loaded) -> None:
  most = loaded.config.learned_positions
  longest = max(encoded, key=data.prompt_length)
  tokens = data.prompt_length(longest)
  if most and tokens + max_new_tokens > most:
    raise UserError(
      f"the prompt has {tokens} tokens, and with {max_new_tokens} more they"
      f" are beyond the model's {most} positions.",
      where=longest.source,
      remedy="Give a smaller --max_new_tokens, or leave the prompt out.",
    )


def _on_template(template: data.ChatTemplate | None, given: str) -> str:
  if template is not None:
    return f"chat template: {named(template)}"
  why = "" if given == "none" else "the model has no chat template: "
  return f"{why}prompts go to the model as they are"
