"""Two services side by side: checkouts, windows, and the decision which is slower."""
