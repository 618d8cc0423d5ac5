"""The five venues, each one pure file."""
