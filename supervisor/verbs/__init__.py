"""Command-line verbs, one module per family, imported only when used."""
