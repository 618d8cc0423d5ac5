"""``python -m supervisor`` is ``paraphina-supervisor``."""

from supervisor.cli import main

main()
