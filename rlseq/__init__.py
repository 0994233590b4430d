"""rlseq fine-tunes sequence-to-sequence models on the reward of the whole sequence, and measures fairly if it helped."""

__version__ = "0.1.0"
