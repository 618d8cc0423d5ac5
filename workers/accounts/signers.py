"""Loading of optional signing libraries, without the side effects they have on the process."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def load(name: str) -> Any:
    """Import and return a module of a signing library; keep the recursion limit.

    A dependency may raise the limit for the whole process (py-ecc, which eth-account needs, to 100,000). A frame of
    nested brackets would then overflow the stack and kill the worker instead of raising an error.

    Raises:
        ImportError: The library is not installed.
    """
    limit = sys.getrecursionlimit()
    try:
        return importlib.import_module(name)
    finally:
        sys.setrecursionlimit(limit)
