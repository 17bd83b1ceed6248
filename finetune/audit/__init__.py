"""What bias a model carries: probes of likelihoods, of answers to swapped texts, of errors by group."""
