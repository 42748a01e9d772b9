"""The languages that callers speak: our own, OpenAI's, Ollama's, Anthropic's; each body becomes one Question."""
