"""Views for a terminal: the table of ``status`` and the screen of ``top``. Whatever they show is escaped."""
