"""The laboratory: what every estimator does on average, how noisy it is and what it costs. `python -m rlseq.lab`."""
