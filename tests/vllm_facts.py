"""Prints what vLLM says of its requests, as JSON: `python -m tests.vllm_facts`.

A program, since the import is heavy and warns.
"""

import json
from typing import Any

from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.renderers.hf import _get_hf_base_chat_template_params

if __name__ == "__main__":
    models: dict[str, Any] = {
        "chat_completions": ChatCompletionRequest,
        "completions": CompletionRequest,
        "responses": ResponsesRequest,
        "messages": AnthropicMessagesRequest,
        "count_tokens": AnthropicCountTokensRequest,
    }
    plain = (type(None), bool, int, float, str)
    found = {
        "defaults": {
            route: {
                name: field.default if isinstance(field.default, plain) else "(other)"
                for name, field in model.model_fields.items()
            }
            for route, model in models.items()
        },
        "aliases": [
            name
            for model in models.values()
            for name, field in model.model_fields.items()
            if field.alias or field.validation_alias
        ],
        "renderer": sorted(_get_hf_base_chat_template_params()),
    }
    print(json.dumps(found))
