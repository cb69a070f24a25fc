"""Making rows of requests: at once where that is no work, else on threads with a time limit and a bound on memory."""
