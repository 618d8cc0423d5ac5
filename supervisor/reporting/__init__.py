"""Reports as web pages: one self-contained HTML file each, made by pure functions."""
