"""Files: TOML of the user's, what comes with the package, outputs written whole or not at all."""
