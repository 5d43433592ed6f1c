"""The load, the limits and the naive peer, side by side in one run; a run that fails its check has no figure."""
