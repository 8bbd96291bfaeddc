"""Models whose weights are in this process: sampling from them, and scoring with them."""
