"""Five venues on loopback, with faults to inject and a truth to compare with."""
