"""Probe project of the behaviour tests: pages and WebSockets that say what reached them."""
