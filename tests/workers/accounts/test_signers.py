"""Loading what others sign with."""

from __future__ import annotations

import sys

import pytest

from ipc.codec import decode
from ipc.errors import DecodeError
from workers.accounts import signers


def test_a_library_cannot_raise_the_recursion_limit(tmp_path, monkeypatch):
    (tmp_path / "a_deep_library.py").write_text("import sys\nsys.setrecursionlimit(100_000)\nloaded = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = sys.getrecursionlimit()
    assert signers.load("a_deep_library").loaded
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize("name", ["eth_account", "eth_account.messages", "starknet_py.hash.utils"])
def test_with_the_libraries_nested_brackets_are_an_error_and_not_the_end(name):
    try:
        signers.load(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")
    with pytest.raises(DecodeError):
        decode(b'{"kind":"bbo","x":' + b"[" * 200_000)


def test_what_is_not_installed_is_an_import_error():
    with pytest.raises(ImportError):
        signers.load("no_such_library")
