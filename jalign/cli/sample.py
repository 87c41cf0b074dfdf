"""`jalign sample`."""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from jalign.cli.parsing import SEEDS, parse_flags
from jalign.errors import UserError


def sample(arguments: Sequence[str]) -> None:
  """Samples responses of a run's policy or a checkpoint."""
  values = flags.FlagValues()
  flags.DEFINE_string("run", "", "run folder", flag_values=values)
  flags.DEFINE_string("model", "", "run, checkpoint", flag_values=values)
  flags.DEFINE_multi_string("prompt", [], "prompt", flag_values=values)
  flags.DEFINE_string("data", "", "file of prompts", flag_values=values)
  flags.DEFINE_string("source", "", "of its rows", flag_values=values)
  flags.DEFINE_string("template", "", "of chats", flag_values=values)
  flags.DEFINE_string("out", "", "JSON lines", flag_values=values)
  flags.DEFINE_integer("count", 1, "samples a prompt", 1, flag_values=values)
  flags.DEFINE_integer("seed", 0, "of the draws", 0, SEEDS, flag_values=values)
  flags.DEFINE_integer("slots", 32, "decoded at once", 1, flag_values=values)
  flags.DEFINE_integer("max_new_tokens", None, "at most", flag_values=values)
  flags.DEFINE_integer("top_k", None, "0: all", flag_values=values)
  for name, said in (
    ("temperature", "0: greedy"),
    ("top_p", "1: all"),
    ("min_p", "0: all"),
    ("repetition_penalty", "1: none"),
  ):
    flags.DEFINE_float(name, None, said, flag_values=values)
  parse_flags(values, arguments)
  if not values.run and not values.model:
    raise UserError("sample needs --run=DIR, or --model=DIR.")
  if values.run and values.model:
    raise UserError("give --model or --run: they name the same.")
  if values.prompt and values.data:
    raise UserError("give --prompt or --data, not both.")
  prompts: list[str] = []
  if not values.data:
    prompts = values.prompt or _typed()
    prompts = [prompt.replace("\\n", "\n") for prompt in prompts if prompt]
    if not prompts:
      raise UserError("no prompt.", remedy="Give --prompt=TEXT or --data=FILE.")

  from jalign.experiment.commands.generation import Generation
  from jalign.experiment.commands.samples import Request
  from jalign.experiment.commands.samples import sample as draw

  settings = {name: values[name].value for name in Generation._fields}
  request = Request(
    model=values.model or values.run,
    prompts=prompts,
    data=values.data,
    source=values.source,
    template=values.template,
    each=int(values["count"].value or 0),  # FlagValues has a method count
    seed=values.seed,
    slots=values.slots,
    given={k: v for k, v in settings.items() if v is not None},
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
  """The lines of standard input."""
  try:
    return [line.rstrip("\n") for line in sys.stdin or ()]
  except UnicodeDecodeError as e:
    raise UserError(f"is no text ({e}).", where="standard input") from None


def _show(rows) -> None:
  """Prints responses, those to one prompt under it."""
  for row in rows:
    if not row["sample"]:
      asked = row["prompt"]
      print(f"> {asked if isinstance(asked, str) else row['text']}")
    print(f"  {row['response'].strip() or '(an empty response)'}")
