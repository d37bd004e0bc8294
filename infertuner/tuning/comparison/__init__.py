"""Three ways to choose GPUs and batch size, DS2, ContTune and joint search, as first published and at steady state."""
