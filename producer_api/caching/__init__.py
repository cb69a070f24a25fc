"""Equal requests that are run once: a cache of answers, and one inference for those that come at the same time."""
