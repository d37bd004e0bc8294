"""The experiments: a scenario's arms in replications, plus one analysis each."""
