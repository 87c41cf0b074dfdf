"""The command line: `jalign {train, sample, evaluate, convert, data}`.

Bad input prints one paragraph and exits with code 2; a run that was asked to
stop (SIGTERM, or Ctrl-C once) saves first and exits with code 0.
"""

import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from jalign.errors import UserError

USAGE = """\
usage: jalign COMMAND [flags]

  train     --config=FILE[:ARG] --workdir=DIR [--config.KEY=VALUE ...]
            Trains every stage of a config, evaluates, writes DIR/report.md
            and DIR/report.html. Run it again to resume.
  sample    --run=DIR [--prompt=TEXT ...] [--count=1] [--max_new_tokens=64]
            [--temperature=1] [--top_k=0] [--top_p=1] [--min_p=0] [--seed=0]
            Samples responses from a run's policy; prompts come from standard
            input, a line each, where none is given; \\n is a line break.
  evaluate  --run=DIR [--against=DIR] [--data=FILE]
            Held-out preference accuracy of a run's policy, and its win rate
            over another run's where the config names an annotator.
  convert   --run=DIR --to=DIR
            Writes a run's policy as a checkpoint that transformers opens. The
            other way, config.init_from takes such a checkpoint.
  data      check PATH [--source=NAME] [--against=PATH] [--tokenizer=DIR]
            [--template=DIR_OR_FILE] [--data_dir=DIR]
            What is in a file of data and what may be wrong with it: rows that
            can't be read, lengths, repeated rows, labels, and prompts that
            are in the other file, too. PATH is JSON lines, parquet, a saved
            Hugging Face dataset or tfds:NAME[/CONFIG][:SPLIT].
"""


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of the `jalign` command; exits."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  commands = {
    "train": _train,
    "sample": _sample,
    "evaluate": _evaluate,
    "convert": _convert,
    "data": _data,
  }
  if not arguments or arguments[0] in ("-h", "--help", "help"):
    print(USAGE)
    sys.exit(0 if arguments else 2)
  command = commands.get(arguments[0])
  try:
    if command is None:
      raise UserError(
        f"unknown command {arguments[0]!r}.",
        remedy=f"Known: {', '.join(commands)}. See jalign --help.",
      )
    command(arguments[1:])
  except UserError as e:
    print(e.paragraph("jalign"), file=sys.stderr)
    sys.exit(2)


def _parse(
  values: flags.FlagValues, arguments: Sequence[str], words: int = 0
) -> list[str]:
  """Parses flags; whatever is wrong with them is the user's.

  Returns:
    At most `words` arguments that are no flags.
  """
  values.set_gnu_getopt()  # flags may follow the words
  try:
    rest = values(["jalign", *arguments])[1:]
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    text = str(e.args[0]) if e.args else str(e)
    for argument in arguments:
      key = argument.lstrip("-").partition("=")[0]
      if key.startswith("config.") and key.rpartition(".")[2] in text:
        raise UserError(
          f"can't be set ({text}).",
          where=key,
          remedy="Keys and their defaults: experiments/configs/base.py.",
        ) from e
    raise UserError(text, where="flags") from e
  if len(rest) > words:
    raise UserError(
      f"{rest[words]!r} is not a flag.", remedy="Flags begin with --."
    )
  return rest


class _Signals:
  """Turns the first SIGTERM or SIGINT into a request to stop."""

  def __init__(self):
    self.requested = False
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._request)

  def _request(self, number, frame):
    del frame
    if self.requested and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.requested = True
    print("\njalign: stopping after this step ...", file=sys.stderr)

  def __call__(self) -> bool:
    return self.requested


def _train(arguments: Sequence[str]) -> None:
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config",
    None,
    "config file",
    flag_values=values,
    sys_argv=["jalign", *arguments],  # not sys.argv: main takes its own
  )
  flags.DEFINE_string("workdir", None, "run folder", flag_values=values)
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours
  _parse(values, arguments)
  try:
    config = values.config and values.config.to_dict()
  except OSError as e:  # ml_collections tells of a missing file only now
    raise UserError(
      str(e).splitlines()[-1].strip(),
      where="--config",
      remedy="Name a Python file with a get_config function.",
    ) from e
  if not config or not values.workdir:
    raise UserError("train needs --config=FILE and --workdir=DIR.")

  # Heavy imports wait until the flags are right.
  from jalign.experiment import folder, lock
  from jalign.experiment.parse import expand, parse
  from jalign.files import telling

  runs = [(name, one, parse(one)) for name, one in expand(config)]
  workdir = pathlib.Path(values.workdir)
  with lock.hold(workdir), telling(workdir, lambda: folder.saved(workdir)):
    _train_all(runs, workdir)


def _is_news(record: logging.LogRecord) -> bool:
  """Whether a log record is other than an exception of a save."""
  return not (record.exc_info and {"orbax", "asyncio"} & _parts(record))


def _parts(record: logging.LogRecord) -> set[str]:
  return set(pathlib.PurePath(record.pathname).parts)


def _train_all(runs: Sequence[Any], workdir: pathlib.Path) -> None:
  """Trains (name, config, settings) one after another, and compares them."""
  from jalign.experiment.report import write_comparison
  from jalign.experiment.run import run_one
  from jalign.training.loop import Interrupted, NonFiniteLossError

  # Orbax also logs the stack traces of what it raises.
  for name in ("absl", "asyncio"):
    logging.getLogger(name).addFilter(_is_news)
  stop = _Signals()
  failed: dict[str, NonFiniteLossError] = {}
  try:
    for name, config, settings in runs:
      if name:
        print(f"=== {name}")
      try:
        report = run_one(settings, config, workdir / name, should_stop=stop)
      except NonFiniteLossError as e:
        if not name:
          raise
        failed[name] = e  # the others of a sweep go on
        print(f"jalign: {name} failed: {e}", file=sys.stderr)
        continue
      print(f"report: {report}")
  except Interrupted as e:
    print(f"jalign: {e}; run the same command to resume.")
    return
  done = [name for name, _, _ in runs if name and name not in failed]
  if done:
    report = write_comparison(workdir, done)
    print(f"comparison of {len(done)} runs: {report}")
  if failed:
    raise UserError(
      f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}."
    )


def _sample(arguments: Sequence[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("run", None, "run folder", flag_values=values)
  flags.DEFINE_multi_string("prompt", [], "prompt", flag_values=values)
  flags.DEFINE_integer("count", 1, "samples a prompt", flag_values=values)
  flags.DEFINE_integer("max_new_tokens", 64, "at most", flag_values=values)
  flags.DEFINE_float("temperature", 1.0, "0: greedy", flag_values=values)
  flags.DEFINE_integer("top_k", 0, "0: all", flag_values=values)
  flags.DEFINE_float("top_p", 1.0, "1: all", flag_values=values)
  flags.DEFINE_float("min_p", 0.0, "0: all", flag_values=values)
  flags.DEFINE_integer("seed", 0, "of the draws", flag_values=values)
  _parse(values, arguments)
  if not values.run:
    raise UserError("sample needs --run=DIR.")
  prompts = values.prompt or [line.rstrip("\n") for line in sys.stdin]
  prompts = [prompt.replace("\\n", "\n") for prompt in prompts if prompt]
  if not prompts:
    raise UserError("no prompt.", remedy="Give --prompt=TEXT.")

  from jalign.experiment.inspect import sample_run
  from jalign.experiment.settings import SamplerSettings

  settings = SamplerSettings(
    prompts=len(prompts),
    per_prompt=int(values["count"].value or 1),
    max_new_tokens=values.max_new_tokens,
    temperature=values.temperature,
    top_k=values.top_k,
    top_p=values.top_p,
    min_p=values.min_p,
  )
  for prompt, responses in sample_run(
    pathlib.Path(values.run), prompts, settings, values.seed
  ):
    print(f"> {prompt}")
    for response in responses:
      print(f"  {response.strip()}")


def _evaluate(arguments: Sequence[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("run", None, "run folder", flag_values=values)
  flags.DEFINE_string("against", None, "another run", flag_values=values)
  flags.DEFINE_string("data", None, "pairs to score", flag_values=values)
  _parse(values, arguments)
  if not values.run:
    raise UserError("evaluate needs --run=DIR.")

  from jalign.experiment.inspect import evaluate_run

  against = pathlib.Path(values.against) if values.against else None
  print(evaluate_run(pathlib.Path(values.run), against, values.data or ""))


def _convert(arguments: Sequence[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("run", None, "run folder", flag_values=values)
  flags.DEFINE_string("to", None, "a new folder", flag_values=values)
  _parse(values, arguments)
  if not values.run or not values.to:
    raise UserError("convert needs --run=DIR and --to=DIR.")

  from jalign.experiment.export import export_run

  print(export_run(pathlib.Path(values.run), pathlib.Path(values.to)))


def _data(arguments: Sequence[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("source", None, "of the rows", flag_values=values)
  flags.DEFINE_string("against", None, "another file", flag_values=values)
  flags.DEFINE_string("tokenizer", None, "its folder", flag_values=values)
  flags.DEFINE_string("template", None, "of chats", flag_values=values)
  flags.DEFINE_string("data_dir", None, "of TFDS", flag_values=values)
  words = _parse(values, arguments, words=len(arguments))
  if len(words) != 2 or words[0] != "check":
    raise UserError(
      "data needs the word check and one PATH.",
      remedy="jalign data check FILE.jsonl [--source=NAME ...]",
    )

  # Its advice on installing PyTorch is no finding about the data.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  from jalign import data
  from jalign.data.check import check
  from jalign.data.findings import describe

  found = check(
    words[1],
    values.source,
    values.against,
    tokenizer=data.load(values.tokenizer) if values.tokenizer else None,
    template=values.template,
    data_dir=values.data_dir,
  )
  print("\n".join(describe(found)))


if __name__ == "__main__":
  main()
