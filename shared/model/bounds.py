"""Bounds: the largest size of each buffer of Tailrace, with the reason. Sizes are bytes, the rest are counts.

The settings take their defaults from here. Buffers that another bound limits are listed at the end.
Pure. Not here: time limits, the validation of a request's fields, and the data that Redis holds.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Connections

CONNECTIONS: Final = 16_384
"""Open connections of one gateway process: the 10,000 readers it is made for, and room for callers. One more is closed
at once, so that its client reconnects, perhaps to another gateway. It bounds readers, callers and channels, too."""

SPARE_FILES: Final = 256
"""Open files of a gateway besides clients' connections: at most 67 connections to Redis, and files of Python and the
system. If the system's limit is below the sum of these and `CONNECTIONS`, connections are fewer
(gateway/http/file_limit.py)."""

LISTEN_BACKLOG: Final = 2048
"""Connections that the kernel holds until they are accepted: many clients reconnect at once after a deploy."""

HEAD_BYTES: Final = 64 * KIB
"""A request's line and headers, which any client may send without a key. Common servers accept from 8 to 64 KiB."""

ADDRESS_CONNECTIONS: Final = 1024
"""Open connections of one client address, by default. A browser opens six, a busy service a few hundred. Proxies are
exempt: all their clients have one address."""

UNREAD_BODY_BYTES: Final = 64 * KIB
"""Bytes of a body that are still read after its request was answered. More would be work for a caller without a key."""

BODY_RATE: Final = KIB
"""The least rate of a body, in bytes a second, by default. The slowest mobile networks are several times faster."""

PIPELINED: Final = 16
"""Requests that a connection may send ahead of its answers. Few clients do; thousands would fit into one read."""

REDIS_CONNECTIONS: Final = 32
"""Connections of one pool. A command takes a fraction of a millisecond: more would only queue in Redis."""

SHARED_COMMAND_BYTES: Final = 64 * KIB
"""The largest command on a client's shared connection. A larger one would delay those behind it, and takes a connection
of the pool."""

SHARED_UNANSWERED_BYTES: Final = MIB
"""Commands without an answer on a client's shared connection: a thousand short ones. Further ones take connections of
the pool, which bounds them."""

# --- Requests and answers

BODY_BYTES: Final = MIB
"""A request's body, by default: the longest contexts are some hundred thousand tokens of about four bytes."""

FILLED_BYTES: Final = 4 * MIB
"""Characters of the answers that are put into the request of a job that comes after others: four of the largest bodies,
and more than any model reads."""

WORKFLOW_STEPS: Final = 256
"""Steps of one workflow, and jobs that one job may come after. The gateway records them one after the other, in about
half a second."""

CONTAINERS: Final = 65_536
"""Objects and lists in one body: several times as many as the longest conversation of `BODY_BYTES` has. The interpreter
decodes, encodes and collects all of them in one step, during which no other code runs."""

INLINE_BYTES: Final = 32 * KIB
"""The largest request that is read on the event loop: it takes a few milliseconds at worst. Larger ones are read in a
process of their own."""

LARGE_WAITING: Final = 64
"""Larger requests of one tenant that wait for this process: more than a busy service sends at a time. Each holds a
body."""

TOOLS: Final = 2048
"""Tools of one response: OpenAI accepts 128. Checking, naming and offering each takes longer than reading it."""

REFUSED_BODY_BYTES: Final = 64 * MIB
"""Bytes of an oversized body that are still read and discarded: a client that is cut off while it sends would see a
broken connection instead of the answer."""

LIST_MOST: Final = 100
"""Jobs in one page of a listing, and records in one read of them."""

SCAN_PAGE: Final = 500
"""Keys that one step of a scan of all records reads: few enough not to delay the server's other commands."""

LIST_ROUNDS: Final = 10
"""Reads for one page: a filter that few jobs pass must not read through a tenant's whole history."""

REFERENCED_JOBS: Final = 32
"""Earlier responses whose items one request may refer to, and answers that get their state back: the log of each is
read."""

SAME_PROMPTS: Final = 8
"""The latest jobs with one prompt that can be found by it: a caller may ask for several samples."""

RECENT_ANSWERS: Final = 4096
"""Ended answers for which a gateway remembers the state: the latest steps of some hundred agents."""

RECENT_ANSWERS_BYTES: Final = 16 * MIB
"""The state of these answers in all: thoughts and signatures have some kilobytes, and most answers have none."""

EMBEDDED_INPUTS: Final = 2048
"""Inputs of one call of `/v1/embeddings`: OpenAI's own bound, and its caller waits for all of them."""

EMBEDDED_INPUTS_OF_A_JOB: Final = 100_000
"""Inputs of one job of `/v1/jobs`, for which no caller has to wait. `BODY_BYTES` and `RESULT_BYTES` bound it too."""

DIMENSIONS: Final = 65_536
"""The longest vector that is requested or accepted: several times as long as any model's."""

MODELS: Final = 10_000
"""Names of models that are offered: several times as many as the largest known catalog has."""

# --- Readers

READER_BYTES: Final = 256 * KIB
"""Frames that wait for one reader, by default; beyond it they are dropped, and it reads the log again. The same amount
again holds the live messages that arrive meanwhile. A minute of a fast model is about as much."""

STEP_READER_BYTES: Final = 16 * KIB
"""The least of these bytes for each step of a workflow, whose readers share those of one: smaller pages would read the
log too often."""

PAGE_BYTES: Final = 256 * KIB
"""Bytes of one read of a log, plus the entry that exceeds them: large enough that a resume takes few round trips."""

NUDGE_OVER: Final = 16 * KIB
"""An empty nudge is published in place of a larger frame: above this size, Valkey 9.1 does not count a message against
a subscriber's output buffer limit. The functions have it too; a test compares."""

PIECE_BYTES: Final = 64 * KIB
"""Bytes written to a connection at once, for two reasons. Its buffer holds asyncio's own bound (64 KiB) and one piece
more. The send time-out is meant for a reader that accepts nothing, not for one that accepts much data slowly."""

SEND_BUFFER_BYTES: Final = 16 * KIB
"""The kernel's send buffer of a connection, which Linux doubles. Without it, the kernel buffers megabytes for a reader
that reads nothing, and back-pressure never reaches the gateway."""

# --- Jobs

DEPTH: Final = 10_000
"""Jobs that wait in one lane, by default: more would wait for longer than their callers do."""

TENANT_SHARE: Final = 2
"""One tenant of several holds at most this fraction, a half, of what all share, by default: the others get the rest."""

BYTES_PERCENT: Final = 50
"""The share of the jobs' server's memory that one tenant of several may fill, by default."""

RUNNING_PERCENT: Final = 80
"""One tenant of several leaves every fifth slot to the others, by default: its jobs may be silent for minutes."""

MEMORY_SHARE: Final = 2
"""The embedded Valkey takes half of the machine's memory, by default: it is copied in part while its log is rewritten,
and the local model and the other processes need theirs."""

LEAST_MEMORY: Final = 16 * MIB
"""The least ceiling of the embedded Valkey: with less, it has no room for a body and its answer."""

MEMORY_RESERVE: Final = 10
"""New jobs are refused when the tenth part of a server's memory is left: running ones need it to end."""

DEAD_LETTERS_OVER: Final = 100
"""Dead letters that one call deletes if there are too many. The functions have it too; a test compares."""

DEAD_LETTERS: Final = 10_000
"""Dead letters, by default: more than a person reads through. Each keeps its request and its log."""

CHAIN: Final = 32
"""Targets of a route's chain: each may be asked for every job, and all of them are in memory."""

WORKER_SLOTS: Final = 100
"""Jobs that one worker process runs at once, by default. There are no more claims, attempts, outboxes and calls."""

VIEWS: Final = 100
"""Jobs for which a gateway reports readers in one call: ten thousand must delay neither its loop nor Redis."""

BREAKER_FAILURES: Final = 64
"""Failed calls that a circuit remembers, so that one request counts once. More of them leave no doubt."""

BREAKER_GROUPS: Final = 64
"""Tenants whose calls a circuit counts in a few seconds. More of them leave no doubt, either."""

ESTIMATED_MODELS: Final = 256
"""Models for which a worker knows the usual length of answers: those called last. Callers choose the names."""

CHOOSY_MODELS: Final = 256
"""Models for which a provider has refused a stream, or the state of an answer. A worker knows so many of them, because
callers name models."""

LOG_BYTES: Final = 16 * MIB
"""Bytes that one execution of a job may log, by default, plus the frame that exceeds them: a few hundred thousand
tokens."""

RESULT_BYTES: Final = 64 * MIB
"""The result of a job that does not stream, by default: 10,000 vectors of OpenAI's usual 1,536 numbers. Redis holds it;
no process of Tailrace holds more than a page of it."""

CHECKPOINT_BYTES: Final = 256 * KIB
"""A checkpoint of a function, as JSON: its job keeps one in Redis."""

EMBEDDED_AT_ONCE: Final = 100
"""Inputs in one request to an upstream: a lost worker costs so many, and the answer must fit into `EVENT_BYTES`."""

EVENT_BYTES: Final = 8 * MIB
"""An upstream's largest event, error or whole answer: room for a picture. Its frame, in ASCII, may be three or four
times as large, and passes undivided through all later stages."""

FRAME_BYTES: Final = 4 * EVENT_BYTES
"""The largest frame that the command line takes: that of the largest event, in ASCII."""

CHOICES: Final = 128
"""The largest `n` of OpenAI's API: the choices' indices, which an upstream sends, become positions of a list."""

EXTRA_FIELDS: Final = 256
"""Names of further fields that an upstream's chunks or choices have in one answer. Real ones have a dozen."""

UNSAID_PIECES: Final = 65_536
"""Token ids of a choice that wait for its next delta. No real model thinks for so long without a word."""

TOOL_CALLS: Final = 1024
"""Tool calls of one choice. Real models make a few dozen; each call is remembered until its answer ends."""

REASON_CHARS: Final = 64
"""An upstream's finish reason. A job's record keeps one for each choice, and listings show them."""

USAGE_BYTES: Final = 4 * KIB
"""Each detail of an upstream's usage; larger ones are left out. A job's record keeps them with the finish reasons."""

USAGE_FIELDS: Final = 32
"""An upstream's further fields of a usage. OpenRouter, the most talkative, has a dozen."""

SENTENCE_CHARS: Final = 500
"""Characters that are shown of an upstream's own words on an error."""

PUMP_BYTES: Final = 256 * KIB
"""Frames of one job that wait for Redis, by default, plus the frame that exceeds them; then its provider must wait."""

KEEP_BYTES: Final = 256 * KIB
"""Frames of one job that are kept after Redis has them, to be sent again: a killed Redis with `appendfsync everysec`
may lose some. worker/execution/pump.py has the time."""

ENTRY_BYTES: Final = 64 * KIB
"""Bytes of one job in one flush, unless a single frame is larger: one entry of the log, which readers get whole."""

FLUSH_BYTES: Final = 8 * MIB
"""Bytes of one flush for all jobs, plus the entry that exceeds them; the others wait for the next flush. About three
copies exist (the worker's, redis-py's and the server's), and every job waits while a flush lasts."""

CHECKED_JOBS: Final = 100
"""Jobs that a reaper checks in one sweep; if there are more, the next sweep follows at once."""

WAKE_UPS: Final = 1000
"""Wake-ups that wait in a lane: more than the free workers are useless. The functions have it; a test compares."""

REPORTED_JOBS: Final = 1000
"""Broken jobs that a worker remembers to have logged: more than a fleet has at a time."""

PROCESSES: Final = 256
"""Processes in one scrape of the metrics: those that published last. Each publishes a few KiB."""

# --- Programs

TAIL_BYTES: Final = 2000
"""The end of a program's output, quoted if it did not start: about a screenful."""

OUTPUT_BYTES: Final = 64 * KIB
"""Bytes of a child program's output that are forwarded at once: a pipe holds as much."""

# --- Buffers that a bound above limits
#
# gateway/streams/hub.py               channels, readers: connections. All live readers of a job share one copy of its
#                                      frames.
# gateway/client                       a transcript keeps a job's deltas for the proof: one execution's log.
# gateway/streams/viewer_heartbeat.py  readers: connections. Departures that are not reported yet: the same, since no
#                                      reader joins a job while Redis is away.
# gateway/dialects                     a stream keeps the choices that it has opened; a whole completion keeps its
#                                      deltas: one execution's log; a stream of response events keeps its text, which
#                                      its last events repeat. A chat's chunk is several times as large as its frame:
#                                      it names the model. A UI message stream keeps its tools' arguments: one
#                                      execution's log.
# gateway/api/ai_sdk.py                a conversation so far: its last job's request and a body of its log, before the
#                                      next turn.
# gateway/api/response_history.py      earlier answers: a body of their events; state of calls: a body of each log.
# shared/store/conversations.py        the ids of a conversation's messages: a body.
# shared/store/replay_log.py           the live feed's channels: the hub's. Subscriptions not sent or not confirmed: one
#                                      for each reader that came or left since the feed's server was last heard, about
#                                      ten seconds at most.
# shared/store/client.py               callers that wait for a connection: requests and jobs. An answer: a page of the
#                                      log, a body, or `LIST_MOST` records. redis-py reads 64 KiB at a time.
# shared/store/catalog.py              names of models: `MODELS` of them, each of at most 255 characters.
# gateway/http/scrape.py               an answer: the metrics of `PROCESSES`, each of them about 45 KiB of text. One is
#                                      made at a time for each of two formats, and kept until the next; requests that
#                                      arrive meanwhile share it.
# worker/execution/runs.py             running, starting: slots.
# worker/execution/attempt_sequence.py a request: a body. Of an answer, hash and count are kept, and the text if an
#                                      attempt continues it: `LOG_BYTES`.
# worker/execution/ending.py           a page of the log.
# worker/execution/embedding.py        the inputs: a body. Vectors: an upstream's answer; stored ones are in Redis, and
#                                      read again by the page.
# gateway/api/results.py               a page of the result; written as numbers it is perhaps five times as large.
