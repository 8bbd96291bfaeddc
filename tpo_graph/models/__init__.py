"""Chat models: one for a name (`load`), n samples of a prompt from it (`sampling`)."""
