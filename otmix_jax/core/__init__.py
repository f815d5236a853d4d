"""What knows nothing of mixtures: trees, arithmetic, factors, the row softmax, how a run ended."""
