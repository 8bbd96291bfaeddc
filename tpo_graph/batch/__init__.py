"""Many queries: answered in one call (`many.py`), or from a file to a file, kept in a database."""
