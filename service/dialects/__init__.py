"""The APIs that callers use: our own, OpenAI's, Ollama's and Anthropic's. Each body becomes a Question."""
