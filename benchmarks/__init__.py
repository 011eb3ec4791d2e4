"""Benchmarks of what is meant to be fast; `make bench` runs them."""
