"""The verbs of the command line, a file for each family; imported only when they are used."""
