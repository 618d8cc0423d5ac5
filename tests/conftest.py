"""What all tests share: property tests do not judge speed, for the cores they run on are shared and noisy,
and no test depends on how the run was started, or on a port that another program may have.
"""

from __future__ import annotations

import os

import pytest
import zmq
from hypothesis import HealthCheck, settings
from inherited import reset_signals

settings.register_profile("noisy_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy_machine")

os.environ["PARAPHINA_GATEWAY_HTTP"] = "127.0.0.1:0"

reset_signals()


@pytest.fixture
def context():
    """A ZeroMQ context; whatever a test left open in it is closed without waiting."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)
