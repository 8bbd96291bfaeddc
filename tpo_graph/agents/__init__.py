"""TPO inside other people's software: a node of a graph, an agent's middleware, a chat model."""
