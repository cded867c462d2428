"""Runs work in a thread of its own, for what takes long but lets others run meanwhile, as native code does.

Rules:

* The loop goes on; its end is told as that of a process is: by SIGCHLD, which wakes the loop.
* It never coincides with a fork: a process that is forked while native code holds one of its locks would wait for that lock for
  ever. So `edge_agent.host.apart` waits for what is under way first, which is rare, and short.
* All signals go to the main thread, as ever.
* It has a stack of its own (`STACK`), whatever the system would give it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")


#: Bytes of stack. What is tested apart has half of it there (`edge_agent.host.apart`).
STACK: Final = 8 << 20
#: Held while a thread begins: until then it is listed, and can't be waited for.
_starting: Final = threading.Lock()


class Aside(Generic[_T]):
    """Work running in a thread. It can't be stopped; where nobody wants what comes of it, let go of this."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._returned: list[_T] = []
        self._raised: Exception | None = None
        #: Whether the work is done, so that `result` does not block.
        self.ended = False
        self._thread = _Thread(target=self._run, name="aside")
        with _starting:
            before = threading.stack_size(STACK)
            try:
                self._thread.start()
            finally:
                threading.stack_size(before)

    def result(self) -> _T:
        """Wait for the end, and return what the work returned. Raises what it raised."""
        self._thread.join()
        if self._raised is not None:
            raise self._raised
        return self._returned[0]

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._returned.append(self._work())
        except Exception as error:  # noqa: BLE001 - raised by `result`
            self._raised = error
        finally:
            self.ended = True
            os.kill(os.getpid(), signal.SIGCHLD)


class _Thread(threading.Thread):
    """One of ours."""


def wait_for_all() -> None:
    """Wait until no thread of ours runs."""
    with _starting:
        under_way = [thread for thread in threading.enumerate() if isinstance(thread, _Thread)]
    for thread in under_way:
        thread.join()
