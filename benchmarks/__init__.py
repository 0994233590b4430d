"""Speed of rlseq beside its peers and the limit of the machine; `python -m benchmarks` runs it, README.md explains it."""
