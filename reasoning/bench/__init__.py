"""Problems of ours in bulk: solved and compared, or sampled into traces."""
