"""Bulk batches: thousands of items in one upload, run through a lane in the background, their results in parts."""
