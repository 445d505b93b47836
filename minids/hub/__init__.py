"""The Hugging Face layout of DeepSeek-like checkpoints, both ways."""
