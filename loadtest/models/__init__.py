"""`make models`: measures models in a real Ollama, scores their answers, and says which to take for what."""
