"""Webhooks: what clients ask to hear of, and its delivery (https://www.standardwebhooks.com)."""
