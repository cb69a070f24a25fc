"""One file per family of models. torch is imported here and in the executor, nowhere else."""
