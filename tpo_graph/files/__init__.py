"""Files that are read: TOML of the user's, and what comes with the package."""
