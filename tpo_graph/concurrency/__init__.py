"""How much happens at once: loops in the background, requests in flight, outages."""
