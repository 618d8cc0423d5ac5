"""Shadow runs: watch a running system for hours, then judge the record."""
