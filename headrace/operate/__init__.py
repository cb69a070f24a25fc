"""What operators ask and change while a stack runs."""
