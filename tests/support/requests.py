"""A body of each kind that is answered, with as many fields as go together, by its path."""

from typing import Any

from testbed.stand_in import MODEL

HI = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OLLAMA_HI = {"role": "user", "content": "Hi", "images": []}
OLLAMA_CALL = {"function": {"name": "f", "arguments": {"a": 1}, "index": 0}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}, "required": ["a"]}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "a"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "b"}], "is_error": True}
CONVERSATION: Any = {
    **{"model": MODEL, "system": [{"type": "text", "text": "Be brief."}], "tool_choice": {"type": "auto"}},
    "messages": [HI, {"role": "assistant", "content": [USE]}, {"role": "user", "content": [RESULT]}],
    "tools": [{"name": "f", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}],
    **{"thinking": {"type": "adaptive"}, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
}
GOOD: dict[str, Any] = {
    "/generate": {
        **{"prompt": "Hi", "system": "Be brief.", "images": [], "model": MODEL, "stream": False, "max_tokens": 5},
        **{"temperature": 0.5, "stop": ["x"], "seed": 1},
    },
    "/v1/chat/completions": {
        **{"model": MODEL, "messages": [HI, {"role": "assistant", "tool_calls": [CALL]}], "stream": False, "n": 1},
        **{"max_tokens": 5.0, "temperature": 1, "top_p": 1, "stop": "x", "seed": 1, "logit_bias": {}, "user": "u"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    },
    "/v1/completions": {
        **{"model": MODEL, "prompt": ["Hi"], "stream": False, "max_tokens": 5, "stop": "x", "n": 1, "user": "u"},
        **{"stream_options": {"include_usage": True}, "logprobs": 0, "echo": False, "logit_bias": {}},
    },
    "/v1/responses": {
        "model": MODEL,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "2"},
        ],
        **{"instructions": "Be brief.", "stream": False, "max_output_tokens": 5.0, "metadata": {"a": "b"}},
        **{"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}], "tool_choice": "auto"},
        **{"text": {"format": {"type": "json_schema", "schema": SCHEMA}}, "reasoning": {"effort": "low"}},
        **{"include": ["reasoning.encrypted_content"], "truncation": "auto", "store": True},
    },
    "/api/chat": {
        **{"model": MODEL, "stream": False, "think": False, "keep_alive": "5m", "truncate": True, "logprobs": False},
        "messages": [OLLAMA_HI, {"role": "assistant", "tool_calls": [OLLAMA_CALL]}, {"role": "tool", "content": "1"}],
        "options": {"temperature": 0.5, "num_ctx": 1, "num_predict": 5, "stop": ["x"], "seed": 1, "mirostat": 1},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    },
    "/api/generate": {
        **{"model": MODEL, "prompt": "Hi", "system": "Be brief.", "images": [], "stream": False, "raw": False},
        **{"format": SCHEMA, "options": {"top_k": 5}, "context": [], "suffix": "", "template": "", "keep_alive": 5},
    },
    "/api/embed": {"model": MODEL, "input": ["a", "b"], "dimensions": 2, "truncate": True, "options": {}},
    "/api/embeddings": {"model": MODEL, "prompt": "a", "keep_alive": 5},
    "/api/show": {"model": MODEL, "verbose": False, "options": {}},
    "/v1/embeddings": {"model": MODEL, "input": ["a", "b"], "encoding_format": "float", "dimensions": 2},
    "/v1/messages": {**CONVERSATION, "max_tokens": 5.0, "temperature": 1, "top_k": 3, "stop_sequences": ["x"]},
    "/v1/messages/count_tokens": CONVERSATION,
}
