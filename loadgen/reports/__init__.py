"""Reports of results: figures, a page, Markdown."""
