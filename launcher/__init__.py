"""`python -m launcher`: finds Ollama and a model where they are missing, and runs Ollama and the gateway as one."""
