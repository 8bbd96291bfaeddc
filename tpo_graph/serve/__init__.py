"""`tpo serve`: an OpenAI-compatible endpoint that answers with the best response of a run."""
