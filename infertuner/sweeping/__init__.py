"""Many cells at once: which points to look at, where to compute them, what to keep, and one table of it all."""
