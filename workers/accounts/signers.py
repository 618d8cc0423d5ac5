"""The field's own libraries for signing: loaded when a key is to be used, and kept from changing the process."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["load"]


def load(name: str) -> Any:
    """A module of such a library.

    What it brings along may raise the recursion limit for the whole process (py-ecc, which eth-account needs, to
    100,000). A frame of nested brackets would then overflow the stack, and kill the worker, where it is an error
    otherwise; so the limit stays as it was.

    Raises:
        ImportError: It is not installed.
    """
    limit = sys.getrecursionlimit()
    try:
        return importlib.import_module(name)
    finally:
        sys.setrecursionlimit(limit)
