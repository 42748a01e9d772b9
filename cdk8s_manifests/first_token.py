# Ends well once Ollama has generated one token: the startup probe of its container, run there as `python -c`.
# With another num_ctx or num_thread than the gateway's requests have, the model would be loaded twice.
import json
import os
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection

environ = os.environ
options = {"num_predict": 1, "num_ctx": int(environ["CONTEXT_LENGTH"]), "num_thread": int(environ["THREADS"])}
body = {"model": environ["MODEL"], "prompt": "Hello", "raw": True, "stream": False, "keep_alive": -1}
connection = HTTPConnection(environ["OLLAMA_HOST"])
for _ in range(20):  # it listens in a moment, but the next probe would come in a second
    with suppress(ConnectionRefusedError):
        connection.connect()
        break
    time.sleep(0.05)
try:
    connection.request("POST", "/api/generate", json.dumps(body | {"options": options}))
    answer = json.load(connection.getresponse())
except (OSError, ValueError) as error:
    sys.exit(str(error))
sys.exit(0 if answer.get("eval_count") else str(answer))
