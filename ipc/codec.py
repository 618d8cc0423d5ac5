"""Events to bytes and back, and the JSON Schema of the events."""

from __future__ import annotations

from typing import Any, Final, cast, get_args

import msgspec

from ipc.errors import DecodeError
from ipc.events import SCHEMA, AnyEvent, Event

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(AnyEvent)


class _KindOnly(msgspec.Struct):
    kind: str


_kind_decoder: Final = msgspec.json.Decoder(_KindOnly)
_KINDS: Final = frozenset(kind.__struct_config__.tag for kind in get_args(AnyEvent))

_STAMPS: Final = ("schema", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags")

#: Returns the payload of an event: UTF-8 JSON.
encode = _encoder.encode


def decode(payload: bytes | memoryview) -> Event | None:
    """Return the event in a payload, None for an unknown schema or kind; raise DecodeError if it is not an event."""
    try:
        event = cast("Event", _decoder.decode(payload))
    except (ValueError, RecursionError) as error:
        if _is_unknown_kind(payload):
            return None
        raise DecodeError(f"not an event: {error}") from error
    return event if event.schema == SCHEMA else None


def _is_unknown_kind(payload: bytes | memoryview) -> bool:
    try:
        return _kind_decoder.decode(payload).kind not in _KINDS
    except (ValueError, RecursionError):
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every event, generated from the types.

    The publisher's stamps have defaults in the types, but every message carries them.
    """
    (schema,), components = msgspec.json.schema_components([AnyEvent], ref_template="#/$defs/{name}")
    for kind in get_args(AnyEvent):
        component = components[kind.__name__]
        component["required"] = [*_STAMPS, *(name for name in component["required"] if name not in _STAMPS)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "paraphina-supervisor events, schema 1",
        **schema,
        "$defs": components,
    }
