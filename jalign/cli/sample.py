"""`jalign sample`."""

import pathlib
import sys

from jalign.cli.others import (
  COLUMNS,
  RUN_IS_MODEL,
  SOURCE,
  TEMPLATE,
  check_data,
)
from jalign.cli.parsing import SEEDS, Flag, Values, command, number, whole
from jalign.errors import UserError

_DRAWS = (  # without a flag, generation_config.json decides
  Flag("max_new_tokens", "N", "tokens of a response at most", read=whole(1)),
  Flag("temperature", "X", "0 takes the likeliest token", read=number),
  Flag(
    "top_k", "N", "draw among the N likeliest tokens; 0 for all", read=whole(0)
  ),
  Flag(
    "top_p",
    "X",
    "draw among the likeliest tokens of total probability X; 1 for all",
    read=number,
  ),
  Flag(
    "min_p",
    "X",
    "leave out tokens less likely than X times the likeliest token",
    read=number,
  ),
  Flag("repetition_penalty", "X", "1 for no penalty", read=number),
)


@command(
  Flag(
    "model", "DIR", "a run, a checkpoint, or its name on the hub", required=True
  ),
  Flag("prompt", "TEXT", "a prompt; may be given again", several=True),
  Flag("data", "FILE", "a file of prompts"),
  SOURCE,
  COLUMNS,
  TEMPLATE,
  Flag("out", "FILE", "a file of JSON lines, with a row for each response"),
  Flag("count", "N", "responses to each prompt", 1, whole(1)),
  Flag("seed", "N", "seed of the draws", 0, whole(0, SEEDS)),
  Flag("slots", "N", "responses that are decoded at once", 32, whole(1)),
  *_DRAWS,
  hints=RUN_IS_MODEL,
)
def sample(values: Values) -> None:
  """Samples responses of a run's policy or a checkpoint.

  Prompts come from --prompt or --data, or from lines of standard input, where
  \\n is a line break. The model's own chat template makes texts of the prompts,
  and its generation_config.json says how responses are drawn, unless flags say
  otherwise. With --out, a row for each response has its log-probs, and the same
  command goes on where it was stopped.

  examples:
    jalign sample --model=runs/dpo --prompt="Dana in Lisbon wants 3 red lamps."
    jalign sample --model=models/Qwen3-0.6B --data=prompts.jsonl --count=4 \\
      --out=samples.jsonl --temperature=0.7
  """
  if values.prompt and values.data:
    raise UserError("give --prompt or --data, not both.")
  check_data(values, "source", "columns")
  prompts: list[str] = []
  if not values.data:
    prompts = values.prompt or _typed()
    prompts = [prompt.replace("\\n", "\n") for prompt in prompts if prompt]
    if not prompts:
      raise UserError(
        "no prompt is given.", remedy="Give --prompt=TEXT or --data=FILE."
      )

  from jalign.experiment.commands.samples import Request
  from jalign.experiment.commands.samples import sample as draw

  given = {flag.name: getattr(values, flag.name) for flag in _DRAWS}
  request = Request(
    model=values.model,
    prompts=prompts,
    data=values.data or "",
    source=values.source or "",
    columns=values.columns,
    template=values.template or "",
    each=values.count,
    seed=values.seed,
    slots=values.slots,
    given={k: v for k, v in given.items() if v is not None},
  )
  out = pathlib.Path(values.out) if values.out else None
  say = lambda line: print(line, file=sys.stderr)
  try:
    draw(request, out, say, _show if out is None else lambda rows: None)
  except KeyboardInterrupt:
    if out is not None:
      say("stopped; run the same command to go on")
    sys.exit(130)


def _typed() -> list[str]:
  """Reads the lines of standard input."""
  try:
    return [line.rstrip("\n") for line in sys.stdin or ()]
  except UnicodeDecodeError as e:
    raise UserError(f"is not text ({e}).", where="standard input") from None


def _show(rows) -> None:
  """Prints prompts, with the responses to a prompt below it."""
  for row in rows:
    if not row["sample"]:
      asked = row["prompt"]
      print(f"> {asked if isinstance(asked, str) else row['text']}")
    print(f"  {row['response'].strip() or '(an empty response)'}")
