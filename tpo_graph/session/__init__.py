"""One run from its inputs to its result: in memory or stored, begun, resumed or rescored."""
