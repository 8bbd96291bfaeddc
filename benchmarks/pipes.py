"""Output that may be piped into a program that reads only some of it, such as `head`."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def quiet_pipe() -> Generator[None]:
    """End the program without a traceback when nobody reads its output any more.

    Raises:
        SystemExit: the pipe is closed; the exit code is 1.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python writes what is buffered at its end, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
