"""Pages: one self-contained HTML file for a run, a sweep or a tuning, that needs neither server nor network."""
