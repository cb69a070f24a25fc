"""What every process of ours has: logs, standard streams, threads, memory, exit statuses."""
