"""The parent process and its tools."""
