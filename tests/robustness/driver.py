"""Runs the command line in a process that kills itself at a given point.

If the point has an "error" number, the process gets this OSError there instead.
Other points make the clock jump, or limit the size of files.

    python -m tests.robustness.driver POINT train --config=... --workdir=...

POINT is a JSON object; see `points.py`. jalign has no hook for it: this module
replaces the functions in every module that imported them by name.
"""

import faulthandler
import functools
import importlib
import inspect
import itertools
import json
import os
import pathlib
import pkgutil
import random
import resource
import signal
import sys
import time

import jalign
from jalign import cli, files

_begun = []  # kept, or it would be garbage-collected


def die(point):
  number = point.get("error")
  if number:
    raise OSError(number, os.strerror(number))
  os.kill(os.getpid(), signal.SIGKILL)


def find(target):
  """(holder, name, function) of "module:name" or "module:Class.method"."""
  module, _, path = target.partition(":")
  *owners, name = path.split(".")
  holder = importlib.import_module(module)
  for owner in owners:
    holder = getattr(holder, owner)
  return holder, name, getattr(holder, name)


def install(point):
  """Replaces the function that a point names by one that kills the process."""
  if point["target"] == "files":
    return _at_file_operation(point)
  if point["target"] == "clock":
    return _unsteady_clock(point["seed"])
  if point["target"] == "limit":
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return resource.setrlimit(resource.RLIMIT_FSIZE, (point["bytes"], hard))
  holder, name, original = find(point["target"])
  mortal = _mortal(original, point)
  if inspect.isclass(holder):
    setattr(holder, name, mortal)
    return
  for module in pkgutil.walk_packages(jalign.__path__, "jalign."):
    if not module.name.endswith("__main__"):
      importlib.import_module(module.name)
  for other in [m for n, m in sys.modules.items() if n.startswith("jalign")]:
    for key, value in list(vars(other).items()):
      if value is original:
        setattr(other, key, mortal)
  setattr(holder, name, mortal)


def _mortal(original, point):
  """`original`, except for one of its calls."""
  count = itertools.count(1)

  def due(arguments):
    said = f"{arguments} {[getattr(a, 'folder', '') for a in arguments]}"
    return point["about"] in said and next(count) == point["call"]

  @functools.wraps(original)
  def mortal(*args, **kwargs):
    if point["when"] == "result":  # the call makes a function
      made = dict(point, when=point["of_result"])
      return _mortal(original(*args, **kwargs), made)
    if not due(args):
      return original(*args, **kwargs)
    if point["when"] == "inside":
      _half(original, args)
      die(point)
    if point["when"] == "after":
      original(*args, **kwargs)
    die(point)

  @functools.wraps(original)
  async def later(*args, **kwargs):
    if not due(args):
      return await original(*args, **kwargs)
    if point["when"] == "after":
      await original(*args, **kwargs)
    die(point)

  return later if inspect.iscoroutinefunction(original) else mortal


def _half(original, args):
  """Does half of what a call would have written or deleted."""
  if original.__name__ == "write_whole":
    path, data = args
    _begun.append(files.appearing(path, alone=False))
    _begun[-1].__enter__().write_bytes(data[: len(data) // 2])
  elif original.__name__ == "write":  # a row of metrics
    writer, step, _ = args
    writer._file.write(b'{"step": %d, "ti' % step)
    writer._file.flush()
  else:  # a deletion: (self, step) or (folder,)
    folder = args[0]
    if len(args) > 1:
      folder = pathlib.Path(str(args[0]._directory), str(args[1]))
    there = sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())
    for path in there[::2]:
      path.unlink()


def _at_file_operation(point):
  """Dies at the n-th opening, renaming, making or deleting below a folder."""
  below, call, count = point["about"], point["call"], itertools.count(1)
  events = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}

  def watch(event, args):
    if event not in events or not str(args[0]).startswith(f"{below}/"):
      return
    if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR):
      return
    number = next(count)
    if call == 0:
      pathlib.Path(below + ".operations").write_text(str(number))
    if number == call:
      die(point)

  sys.addaudithook(watch)


def _unsteady_clock(seed):
  """Sets the clock hundreds of times a second, by up to thirty years."""
  true, since = time.time, time.monotonic

  def jumped():
    offset = random.Random(f"{seed} {int(since() / 0.003)}").uniform(-5e8, 5e8)
    return true() + offset

  time.time = jumped
  time.time_ns = lambda: int(jumped() * 1e9)


if __name__ == "__main__":
  faulthandler.dump_traceback_later(240, exit=True)  # for a run that hangs
  install(json.loads(sys.argv[1]))
  cli.main(sys.argv[2:])
