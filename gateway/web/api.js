/* The gateway's HTTP API, as this page needs it: list models, submit, read and cancel jobs.
   It decides what is worth repeating; it keeps no state but the way to the key. */

import { backOff } from "./stream.js";

const REPEATABLE = [408, 429, 502, 503, 504];
// A request without an answer for this long is aborted and, if that is safe, sent again.
const REQUEST_MS = 30_000;

/** A refusal of the gateway, as a sentence. `status` 0: it could not be reached. */
export class ApiError extends Error {
  constructor(status, message, { code = null, retryAfterMs = null, repeat = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.repeatable = repeat ?? (status === 0 || REPEATABLE.includes(status));
  }
}

export class Api {
  #key;
  #refused;

  /** `key()` gives the API key or null; `refused()` is called when the gateway answers 401. */
  constructor(key, refused) {
    this.#key = key;
    this.#refused = refused;
  }

  /** Lists the names of the models that the gateway offers. */
  async models() {
    const { data } = await this.#call("GET", "v1/models");
    return data.map(({ id }) => id);
  }

  /**
   * Submits a job, with retries: the same body under the same idempotency key is the same job, however often
   * it is sent. `waiting(error, ms)` is called before each wait. Resolves to null when `wanted()` has become false.
   */
  async submit(request, idempotencyKey, waiting, wanted) {
    const send = () => this.#call("POST", "v1/jobs", request, { "Idempotency-Key": idempotencyKey });
    return this.#withRetries(send, waiting, wanted);
  }

  /** Reads the job; null if the gateway doesn't know it (any more). */
  async job(link) {
    return this.#orNull(this.#call("GET", link));
  }

  /** Cancels the job; its terminal event follows. Null if the gateway doesn't know it. */
  async cancel(link, wanted) {
    return this.#orNull(this.#withRetries(() => this.#call("POST", link), () => {}, wanted));
  }

  async #withRetries(send, waiting, wanted) {
    for (let failures = 0; ; failures += 1) {
      try {
        return await send();
      } catch (error) {
        if (!error.repeatable) throw error;
        if (!wanted()) return null;
        const ms = error.retryAfterMs ?? backOff(failures);
        waiting(error, ms);
        await pause(ms, wanted);
        if (!wanted()) return null;
      }
    }
  }

  async #orNull(answer) {
    try {
      return await answer;
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  async #call(method, link, body, headers = {}) {
    const options = { method, cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS) };
    options.headers = { ...headers, Authorization: `Bearer ${this.#key()}` };
    if (body) {
      options.body = JSON.stringify(body);
      options.headers["Content-Type"] = "application/json";
    }
    let response, text;
    try {
      response = await fetch(link, options);
      text = await response.text();
    } catch {
      throw new ApiError(0, "The gateway can't be reached.");
    }
    if (response.ok) return JSON.parse(text);
    if (response.status === 401) this.#refused();
    throw refusal(response, text);
  }
}

/** Converts an answer that is not a success to an ApiError; reads problem+json (RFC 9457) and OpenAI's envelope. */
function refusal(response, text) {
  const { status, headers } = response;
  let body = {};
  if (/\bjson\b/.test(headers.get("Content-Type") ?? "")) body = JSON.parse(text);
  const message = body.detail ?? body.error?.message ?? body.title ?? `The gateway answered ${status}.`;
  const said = headers.get("x-should-retry");
  return new ApiError(status, message, {
    code: body.code ?? body.error?.code ?? null,
    retryAfterMs: retryAfterMs(headers.get("Retry-After")),
    repeat: said ? said === "true" : null,
  });
}

/** Converts Retry-After (RFC 9110, 10.2.3), seconds or a date, to milliseconds from now; at most a minute. */
function retryAfterMs(value) {
  if (!value) return null;
  const seconds = Number(value);
  const ms = Number.isNaN(seconds) ? Date.parse(value) - Date.now() : seconds * 1000;
  return Number.isNaN(ms) ? null : Math.min(60_000, Math.max(250, ms));
}

/** Waits, at most until the answer is no longer wanted. */
async function pause(ms, wanted) {
  const end = performance.now() + ms;
  while (wanted() && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(200, end - performance.now())));
  }
}
