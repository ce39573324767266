"""The study of memory architectures."""
