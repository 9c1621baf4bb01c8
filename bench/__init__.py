"""Benchmarks: `make bench`. Everything that is compared is compared in one run, with one load generator."""
