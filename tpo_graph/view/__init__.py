"""Pages about stored runs, in a browser, while they run: `tpo view`, and the pages of `tpo serve`.

They read the database, so they show the runs of every process that writes to it.
"""
