"""What became of the answers: outcomes of experiments, and the watch over canaries."""
