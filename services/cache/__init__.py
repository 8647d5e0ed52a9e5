"""The cache: answers from earlier answers, by meaning."""
