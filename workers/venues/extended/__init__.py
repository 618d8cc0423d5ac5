"""TODO: describe this folder."""
