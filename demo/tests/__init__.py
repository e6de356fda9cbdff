"""Tests of the demonstration site. They need no broker."""
