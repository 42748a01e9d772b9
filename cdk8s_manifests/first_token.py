# Ends well once Ollama has generated one token: the startup probe of its container, run there as `python -c`.
# With another num_ctx, num_thread or shift than the gateway's requests have, the model would be loaded twice.
import json
import os
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection

environ = os.environ
options = {"num_predict": 1, "num_ctx": int(environ["CONTEXT_LENGTH"]), "num_thread": int(environ["THREADS"])}
body = {"model": environ["MODEL"], "stream": False, "keep_alive": -1, "options": options}
# Of a model that embeds, which refuses to generate, an embedding is as good.
questions = {
    "/api/generate": body | {"prompt": "Hello", "raw": True, "shift": False},
    "/api/embed": body | {"input": "Hello"},
}
connection = HTTPConnection(environ["OLLAMA_HOST"])
for _ in range(20):  # it listens in a moment, but the next probe would come in a second
    with suppress(ConnectionRefusedError):
        connection.connect()
        break
    time.sleep(0.05)
answer = {}
try:
    for path, question in questions.items():
        connection.request("POST", path, json.dumps(question))
        answer = json.load(connection.getresponse())
        if answer.get("eval_count") or answer.get("embeddings"):
            sys.exit(0)
        if "does not support generate" not in answer.get("error", ""):
            break
except (OSError, ValueError) as error:
    sys.exit(str(error))
sys.exit(str(answer))
