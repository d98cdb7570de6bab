"""Broken wires on real sockets: a byte-level server, a TCP proxy, a harness."""
