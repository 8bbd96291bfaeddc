"""A real browser for tests and benchmarks: the system's Chromium, without a head or a network."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str | None:
    """The browser's path."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def no_chromium() -> str | None:
    """Why there is no browser to test with; None when there is one."""
    if executable() is None:
        return f"none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "the package playwright is not installed"
    return None


@contextmanager
def browser() -> "Iterator[Browser]":
    """Chromium, for the time of the block."""
    from playwright.sync_api import sync_playwright

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable(), args=["--no-sandbox"] if root else []
        )
        yield chromium
        chromium.close()
