"""Parent process and its tools."""
