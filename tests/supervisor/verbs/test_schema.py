"""``schema``."""

from __future__ import annotations

import json

from ipc.codec import json_schema


def test_the_schema_is_printed_as_json(cli):
    ran = cli("schema")
    assert ran.code == 0
    assert json.loads(ran.out) == json.loads(json.dumps(json_schema()))
