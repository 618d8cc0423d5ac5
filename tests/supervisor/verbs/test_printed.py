"""Every line that a verb prints passes through :mod:`ipc.printable`, or holds nothing from outside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from supervisor import cli, verbs

FOLDER = Path(verbs.__file__).parent
#: What makes text safe, and the functions whose results are made of safe texts alone.
SAFE = {"printable", "printable_lines", "printable_json", "joined_lines", "printable_values"}
FORMATTERS = {
    "_as_json",  # printable JSON
    "_as_text",  # joined lines
    "_book_text",  # joined lines
    "_frame",  # rendered
    "_text",  # joined lines, or of escaped values
    "encode",  # the JSON Schema of this program
    "json_line",
    "prettied",
    "render",  # of escaped values
}
#: The verbs that show what venues, journals, logs and other programs say.
SHOWING = [
    "check",
    "control",
    "decode",
    "fixture",
    "inspect",
    "journal",
    "keys",
    "logs",
    "record",
    "scenario",
    "shadow",
    "status",
    "top",
    "waiting",
]


def printed(path):
    """Yield line and argument of each call that prints."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            name = ast.unparse(node.func)
            if name in {"click.echo", "sys.stdout.write", "sys.stderr.write"}:
                yield node.lineno, node.args[0]


def is_safe(argument, assigned):
    """Whether an expression is a constant, a call that makes its text safe, or numbers and constants."""
    match argument:
        case ast.Constant():
            return True
        case ast.IfExp():
            return is_safe(argument.body, assigned) and is_safe(argument.orelse, assigned)
        case ast.BinOp():
            return is_safe(argument.left, assigned) and is_safe(argument.right, assigned)
        case ast.JoinedStr():
            return all(is_safe(part, assigned) for part in argument.values)
        case ast.FormattedValue():
            is_number = argument.format_spec is not None and ast.unparse(argument.format_spec).strip("f'").endswith(",")
            is_word = isinstance(argument.value, ast.Constant)
            return is_number or is_word or is_safe(argument.value, assigned)
        case ast.Call():
            name = ast.unparse(argument.func).rpartition(".")[2]
            return name in SAFE | FORMATTERS or (name == "join" and "printable" in ast.unparse(argument))
        case ast.Name():
            return argument.id in assigned
        case _:
            return False


@pytest.mark.parametrize(
    "path", [*(FOLDER / f"{name}.py" for name in SHOWING), Path(cli.__file__)], ids=lambda p: p.stem
)
def test_what_is_printed_is_escaped(path):
    """``shown`` and ``pid`` are made just before, of escaped text and of a number."""
    found = [
        f"{path.name}:{line}: {ast.unparse(argument)}"
        for line, argument in printed(path)
        if not is_safe(argument, {"shown", "pid"})
    ]
    assert found == []
