"""Calls a function of many items from several threads."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
  function: Callable[[Item], Result],
  items: Sequence[Item],
  threads: int,
  stop: threading.Event,
) -> Iterator[tuple[int, Result]]:
  """Yields (index, result) of each item as soon as it is known.

  The first error ends all. The threads are daemons, so that a request that is
  under way then doesn't keep the program from ending.

  Args:
    function: `item -> result`.
    items: the items.
    threads: the most calls at a time.
    stop: set at the end, and at the first error.
  """
  left: queue.SimpleQueue[int] = queue.SimpleQueue()
  done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
  for index in range(len(items)):
    left.put(index)

  def work() -> None:
    while not stop.is_set():
      try:
        index = left.get_nowait()
      except queue.Empty:
        return
      try:
        done.put((index, function(items[index])))
      except BaseException as error:  # raised again by who waits
        stop.set()
        done.put((index, error))

  for _ in range(min(threads, len(items))):
    threading.Thread(target=work, daemon=True).start()
  try:
    for _ in items:
      index, result = done.get()
      if isinstance(result, BaseException):
        raise result
      yield index, result
  finally:
    stop.set()
