"""What a user writes first: Flask's development server that calls Ollama's client, without a queue or a limit."""

import os
import sys

import ollama
from flask import Flask, request

app = Flask(__name__)


@app.post("/generate")
def generate() -> dict[str, str]:
    """Answer a prompt."""
    messages = [{"role": "user", "content": request.json["prompt"]}]
    return {"response": ollama.chat(model=os.environ["MODEL"], messages=messages)["message"]["content"]}


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), threaded=True)
