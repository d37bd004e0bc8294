"""What happened and what it means: metrics, statistics, tables, figures and the run folder."""
