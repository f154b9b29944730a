"""Runs any graph of jobs on SLURM or on this machine; knows nothing of vision."""
