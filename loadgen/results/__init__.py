"""What was recorded, its statistics, and the shapes of result files."""
