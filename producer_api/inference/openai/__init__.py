"""OpenAI's API, and the two that rerankers and embedding servers have: a codec for each path."""
