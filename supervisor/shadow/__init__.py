"""The shadow run: watch a running system for hours, then judge what was seen."""
