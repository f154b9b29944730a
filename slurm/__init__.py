"""Runs any graph of tasks on SLURM or on this machine; knows nothing of vision. README.md says where to begin."""
