"""A file that is written whole or not at all, in the place of the one before."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tpo_graph.errors import ConfigurationError


@contextmanager
def replaced(path: str | Path) -> Generator[IO[bytes]]:
    """A file that takes the place of `path` once it is whole and on the disk.

    A pipe or a device is written to as it is: a file in its place would be no pipe any more.

    Raises:
        ConfigurationError: it cannot be written; `path` is as it was.
    """
    given = Path(path)
    place = given.resolve()
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        if given.exists() and not given.is_file():
            with given.open("wb") as file:
                yield file
            return
        with part.open("wb") as file:
            if place.exists():
                part.chmod(place.stat().st_mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    except OSError as e:
        if not place.parent.is_dir():
            why = f"there is no folder {str(place.parent)!r}. Make it, or name another file."
        else:  # without the file's name, which might be that of `part`
            why = e.strerror or str(e)
        raise ConfigurationError(f"the output {str(path)!r} cannot be written: {why}") from e
    finally:
        part.unlink(missing_ok=True)
