"""Values of flags, config files that fail, and where output goes."""

import io
import os
import pathlib
import subprocess
import sys

import pytest

from jalign import cli
from jalign.cli.terminal import careful
from jalign.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
  "command, said",
  [
    ("sample --model=x --count=-1", "--count: -1 is not at least 1."),
    ("sample --model=x --count=0", "--count: 0 is not"),
    ("sample --model=x --count=x", "--count: 'x' is not a whole number."),
    ("sample --model=x --top_p=x", "--top_p: 'x' is not a number."),
    ("sample --model=x --slots=0", "--slots: 0 is not"),
    ("sample --model=x --seed=-3", "--seed: -3 is not"),
    (f"sample --model=x --seed={2**63}", f"--seed: {2**63} is more than"),
    (
      "sample --model=x --temperature=nan",
      "--temperature: nan is not a",
    ),
    ("sample --model=x --top_p=inf", "--top_p: inf is not a finite"),
    ("sample --model=x\0y --prompt=a", "--model: contains the character NUL"),
    ("report x\0y", "contains the character NUL"),
    ("score --batch_size=0", "--batch_size: 0 is not at least 1."),
    ("score --beta=-inf", "--beta: -inf is not a finite number."),
    ("convert --mode=x", "no flag '--mode'. Did you mean --model?"),
    ("convert --run=x", "no flag '--run'. A run's folder is given by --model"),
    ("convert --adapter=perhaps", "--adapter: 'perhaps' is neither true nor"),
    ("convert --model", "--model: has no value."),
    ("convert --model=x", "convert needs --to=DIR. `jalign convert --help`"),
    ("sample --model=x --prompt=a --columns=a=b", "--columns: needs a file"),
    ("sample --model=x --prompt=a --source=pairs", "--source: needs a file"),
    ("evaluate --model=x --columns=a=b", "Give --data=FILE, too."),
    ("convert x", "'x' is not a flag. Flags begin with --."),
    ("data check x --columns=a", "--columns: 'a' is not FIELD=COLUMN."),
    ("train --conf=dpo --workdir=x", "no flag '--conf'. Did you mean --config"),
    ("train --config=dpo", "train needs --workdir=DIR."),
  ],
)
def test_values_that_no_flag_has(place, command, said):
  message = place.fails(command.split(" "))
  assert said in message and "('" not in message


def _help(capsys, *arguments):
  with pytest.raises(SystemExit) as ended:
    cli.main(arguments)
  assert ended.value.code == 0
  return capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(capsys, monkeypatch, name):
  monkeypatch.setenv("COLUMNS", "80")
  said = _help(capsys, name, "--help")
  assert said == _help(capsys, "help", name)
  command = cli.COMMANDS[name]
  assert said.startswith(f"usage: jalign {name}") and command.about in said
  assert len(command.about) < 70 and "example" in said
  for flag in command.flags:
    assert f"  --{flag.name}" in said and len(flag.about) > 3
    if flag.default not in (None, "", False):
      assert f"{flag.default} by default" in " ".join(said.split())
  assert max(map(len, said.splitlines())) <= 80


def test_help_of_train_lists_shipped_configs(capsys):
  said = _help(capsys, "train", "--help")
  assert (
    "  dpo              SFT, then DPO, on preference pairs: the config" in said
  )
  assert "jalign keys" in said and "--config.KEY=VALUE" in said


def test_help_and_wrong_flags_import_nothing_slow():
  slow = "jax", "numpy", "tensorflow", "transformers", "optax", "ml_collections"
  wrong = ["train --workdir=x", "train --cnfig=dpo", "sample --count=x", "nope"]
  wrong += ["evaluate --run=x", "train --config=dpoo --workdir=x", "data chekc"]
  code = f"""
import sys
from jalign import cli
for line in {[f"{n} --help" for n in cli.COMMANDS] + ["--help"] + wrong!r}:
  try:
    cli.main(line.split())
  except SystemExit as e:
    assert e.code == (0 if "--help" in line else 2), line
  assert not set(sys.modules) & set({slow!r}), line
"""
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
  "flag, said",
  [
    ("seed=-1", "config.seed: -1 is not in [0, 2^63)"),
    (f"seed={2**63}", f"config.seed: {2**63} is not in"),
    ("optimizer.learning_rate=nan", "learning_rate: nan is not a finite"),
    ("loss.beta=inf", "config.loss.beta: inf is not a finite number"),
    ("data.path=a\0b", "config.data.path: contains the character NUL"),
    ("data.source=jsonal", "config.data.source: unknown source 'jsonal'. Did"),
    ("algorithm=online-dpo", "Did you mean 'online_dpo'?"),
    ("select=eval/los", "Did you mean 'eval/loss'?"),
    (
      "optimzer.schedule=x",
      "no key 'optimzer' here. Did you mean 'opti",
    ),
    (
      "optimizer.shedule=x",
      "Did you mean 'schedule'? `jalign keys` lists every key.",
    ),
    ("steps.more=1", "config.steps.more: there is no key 'more'"),
    ("judge=maybe", "config.judge: 'maybe' is neither true nor false."),
  ],
)
def test_values_that_no_key_has(place, flag, said):
  message = place.fails(place.command(f"--config.{flag}"))
  assert said in message and "('" not in message
  assert not (place.folder / "run").exists()


# (body of get_config, the line that is named, the message).
BODIES = {
  "return 1 / 0": (6, "get_config raised ZeroDivisionError"),
  "exit(4)": (6, "get_config raised SystemExit: 4"),
  "open('/nowhere')": (6, "No such file or directory: '/nowhere'"),
  "c.optimiser.schedule": (6, 'Did you mean "optimizer"'),
  "{}['optimiser']": (6, "KeyError: optimiser. Did you mean 'optimizer'?"),
  "c.steps = 'many'": (6, "Could not override field 'steps'"),
  "pass": (4, "gave None, not a ConfigDict. It may lack a return."),
  "return {'steps': 1}": (4, "gave a dict, not a ConfigDict."),
  "yield c": (4, "gave a generator, not a ConfigDict."),
  "return": (4, "gave None"),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_config_file_that_fails(place, body):
  line, said = BODIES[body]
  place.config.write_text(
    "from jalign.configs import base\n\n\ndef get_config():\n"
    f"  c = base.get_config()\n  {body}\n"
  )
  message = place.fails(place.command())
  assert f"--config: {place.config}:{line}: " in message and said in message


@pytest.mark.parametrize(
  "text, said",
  [
    ("def get_config(:\n", "config.py:1: .*SyntaxError"),
    ("\nimport nowhere_at_all\n", "config.py:2: .*No module named"),
    ("get_confg = print\n", "has no function 'get_config'. Did you mean"),
    ("def get_config(name):\n  pass\n", "missing a required argument"),
  ],
)
def test_a_config_file_that_cannot_be_loaded(place, text, said):
  place.config.write_text(text)
  with pytest.raises(AssertionError, match=said):
    raise AssertionError(place.fails(place.command()))


def test_a_key_that_nothing_reads(place):
  with place.config.open("a") as file:
    file.write("\n\nold = get_config\n\n\ndef get_config():\n  c = old()\n")
    file.write("  c.batchsize = 2\n  return c\n")
  message = place.fails(place.command())
  assert "config.batchsize: is not a key here" in message
  assert "Did you mean 'batch_size'?" in message


def test_a_terminal_that_shows_ascii_alone(monkeypatch):
  shown = io.BytesIO()
  narrow = io.TextIOWrapper(shown, encoding="ascii", errors="strict")
  monkeypatch.setattr(sys, "stdout", narrow)
  with careful():
    print("5 ± 1 \udc80 日")
  assert shown.getvalue() == b"5 \\xb1 1 \\udc80 \\u65e5\n"
  assert sys.stdout is narrow and narrow.errors == "strict"


def test_the_error_on_such_a_terminal(tmp_path, monkeypatch):
  shown = io.BytesIO()
  narrow = io.TextIOWrapper(shown, encoding="ascii", errors="strict")
  monkeypatch.setattr(sys, "stderr", narrow)
  with pytest.raises(SystemExit) as e:
    cli.main(["evaluate", f"--model={tmp_path / 'été'}"])
  narrow.flush()
  assert e.value.code == 2 and b"\\xe9t\\xe9" in shown.getvalue()


def _run(*arguments, **options):
  return subprocess.Popen(
    [sys.executable, "-m", "jalign", *arguments],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def test_a_reader_that_has_gone():
  """Like `head`, which exits when it has its lines."""
  process = _run("--help", stdout=subprocess.PIPE)
  process.stdout.close()
  _, said = process.communicate()
  assert said == "" and process.returncode == 128 + 13


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_to_a_full_disk_is_not_another_files_error(tmp_path):
  with open("/dev/full", "w") as full:
    process = _run("--help", stdout=full)
    _, said = process.communicate()
  assert process.returncode == 2
  assert said.startswith("jalign: error: standard output: can't be written (No")


def test_an_error_of_the_system_names_its_file(place, monkeypatch):
  def closed(*arguments):
    raise PermissionError(13, "Permission denied", "/their/file")

  monkeypatch.setitem(cli.COMMANDS, "evaluate", closed)
  said = place.fails(["evaluate"])
  assert said.endswith("/their/file: Permission denied.")


def test_an_interrupt_is_no_traceback(capsys, monkeypatch):
  def interrupted(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setitem(cli.COMMANDS, "evaluate", interrupted)
  with pytest.raises(SystemExit) as e:
    cli.main(["evaluate"])
  assert e.value.code == 130
  assert capsys.readouterr().err == "jalign: interrupted\n"


def test_a_stream_that_fails_says_so():
  class Full(io.StringIO):
    def write(self, text):
      raise OSError(28, "No space left on device")

  before = sys.stdout
  sys.stdout = Full()
  try:
    with pytest.raises(UserError, match="standard output: can't"), careful():
      print("x")
  finally:
    sys.stdout = before


def _printed(capsys, *arguments):
  cli.main(arguments)
  return capsys.readouterr().out


def test_metrics_are_found_by_name_or_by_meaning(place, capsys):
  one = _printed(capsys, "metrics", "samples/win_rate")
  assert one.startswith("samples/win_rate  (win rate)\n")
  assert "likelihood/displaced_share" in _printed(capsys, "metrics", "displac")
  every = _printed(capsys, "metrics")
  assert "rollouts\n    responses that an online stage draws" in every
  assert "train/loss, eval/loss  (loss)" in every
  assert "Did you mean 'win_rate'?" in place.fails(["metrics", "winrate"])


@pytest.mark.parametrize(
  "flags, said",
  [
    (
      ["steps=4", "optimizer.warmup_steps=4"],
      "config.optimizer.warmup_steps: 4 updates of warm-up",
    ),
    (
      ["sft.steps=4", "sft.optimizer.warmup_steps=5"],
      "config.sft.optimizer.warmup_steps: 5 updates of warm-up",
    ),
    (
      ["data.buckets=(64,)", "data.max_prompt_tokens=64"],
      "config.data.max_prompt_tokens: prompts of up to 64 tokens leave no room"
      " for a response: the longest of config.data.buckets has 64 tokens. Lower"
      " it, for example --config.data.max_prompt_tokens=32",
    ),
  ],
)
def test_what_a_config_decides_alone_is_said_before_data_are_read(
  place, flags, said
):
  keys = ["--config=dpo", "--config.data.path=no.jsonl"]
  keys += [f"--config.{flag}" for flag in flags]
  assert said in place.fails(["train", *keys, f"--workdir={place.folder}/x"])
