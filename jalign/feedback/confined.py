"""Runs Python code within limits: the script of a process of its own.

`jalign.feedback.programs` starts this file and writes the code to its standard
input as JSON. The process first gives up what the code must not do, then runs
the code, and at last writes the token that it was given: a process that ends in
any other way, by `exit()` too, has failed.

Where the kernel has no such means (they are those of Linux), the process goes
on without and says so in its last line.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable

_NO_NEW_PRIVILEGES, _SECCOMP = 38, 22  # prctl options
_RULESET, _RESTRICT = 444, 446  # system calls of Landlock
# Calls that start processes and threads, leave the group, send signals, trace,
# open sockets, reach into other processes, or leave memory behind, by
# architecture: <asm/unistd.h>. The last number is that of prlimit64, which is
# allowed for the process itself alone.
_CALLS = {
  "x86_64": (
    0xC000003E,
    (
      56, 57, 58, 59, 322, 435, 62, 200, 234, 109, 112, 101, 41, 425,
      424, 434, 438, 129, 297, 310, 311, 141, 29, 64, 68, 240,
    ),
    302,
  ),
  "aarch64": (
    0xC00000B7,
    (
      220, 221, 281, 435, 129, 130, 131, 154, 157, 117, 198, 425,
      424, 434, 438, 138, 240, 270, 271, 140, 194, 190, 186, 180,
    ),
    261,
  ),
}  # fmt: skip


def main() -> None:
  """Reads {code, test, token, seconds, memory} and runs both texts."""
  told = json.load(sys.stdin)
  answer, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
  for standard in (0, 1, 2):
    os.dup2(null, standard)
  lacking = [
    name
    for name, give_up in (
      ("memory and time", lambda: _limit(told["seconds"], told["memory"])),
      ("files", _write_no_files),
      ("processes", _start_no_processes),
    )
    if not _done(give_up)
  ]
  space: dict[str, object] = {
    "__name__": "response",
    "__builtins__": __builtins__,
  }
  try:
    exec(compile(told["code"], "response", "exec"), space)
    exec(compile(told["test"], "test", "exec"), space)
  except BaseException:  # whatever the code raises, exit() too
    os._exit(1)
  os.write(answer, f"{told['token']} {','.join(lacking)}".encode())
  os._exit(0)  # no thread, no atexit


def _done(give_up: Callable[[], None]) -> bool:
  try:
    give_up()
  except (OSError, ValueError, AttributeError, KeyError):
    return False
  return True


def _limit(seconds: int, memory: int) -> None:
  """Limits memory (bytes), processor time, open files, and file sizes to 0."""
  for what, most in (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_AS, memory),
  ):
    resource.setrlimit(what, (most, most))


def _call(function: str, *arguments: object) -> int:
  libc = ctypes.CDLL(None, use_errno=True)
  found = getattr(libc, function)(*arguments)
  if found < 0:
    raise OSError(ctypes.get_errno(), function)
  return found


def _write_no_files() -> None:
  """Makes every change of a file or a folder an error (Linux's Landlock)."""
  if not sys.platform.startswith("linux"):
    raise OSError("no Landlock")
  _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
  version = _call("syscall", _RULESET, None, 0, 1)
  # Bits: 1 write, 4 to 12 remove and make; since version 3, 14 truncate.
  handled = ctypes.c_uint64(0x1FF2 | (version >= 3) << 14)
  rules = _call("syscall", _RULESET, ctypes.byref(handled), 8, 0)
  _call("syscall", _RESTRICT, rules, 0)


def _start_no_processes() -> None:
  """Makes processes, threads, signals and sockets errors (seccomp)."""
  _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
  architecture, calls, own_limits = _CALLS[platform.machine()]
  load, equal, above, give = 0x20, 0x15, 0x35, 0x06  # instructions of BPF
  refuse, allow = 0x00050001, 0x7FFF0000  # EPERM; allow
  count = len(calls)
  lines = [
    (load, 0, 0, 4),  # the architecture of the call
    (equal, 0, count + 6, architecture),
    (load, 0, 0, 0),  # the number of the call
    (above, count + 4, 0, 0x40000000),  # x32's calls on x86
    *((equal, count + 3 - i, 0, call) for i, call in enumerate(calls)),
    (equal, 0, 2, own_limits),
    (load, 0, 0, 16),  # the first argument: 0 for the process itself
    (equal, 0, 1, 0),
    (give, 0, 0, allow),
    (give, 0, 0, refuse),
  ]
  program = b"".join(struct.pack("HBBI", *line) for line in lines)
  text = ctypes.create_string_buffer(program, len(program))
  filters = ctypes.create_string_buffer(
    struct.pack("HP", len(lines), ctypes.addressof(text))
  )
  _call("prctl", _SECCOMP, 2, filters, 0, 0)


if __name__ == "__main__":
  main()
