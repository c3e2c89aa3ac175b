/* The state of one reader of one job: its events, folded into an answer. Pure: no network, no DOM, no clock.
   Above it: stream.js, which feeds it. It keeps the reader's rules (an id is applied once; `rollback` forgets
   the deltas after `to`; `gap` forgets everything) and the proof that nothing was lost (a hash over the deltas). */

export const TERMINAL = ["completed", "failed", "cancelled", "expired"];

/** "<epoch>-<seq>" as two numbers, or null. Ids compare as numbers: "1-10" comes after "1-9". */
export function parseId(text) {
  const match = /^(\d+)-(\d+)$/.exec(text);
  return match && [Number(match[1]), Number(match[2])];
}

function isAfter(id, other) {
  return id[0] === other[0] ? id[1] > other[1] : id[0] > other[0];
}

export class Transcript {
  constructor() {
    this.forget();
  }

  /** The state before the first event; also the state after `gap`. */
  forget() {
    this.lastId = null; // "<epoch>-<seq>" of the last event applied: the resume cursor
    this.whole = false; // read from the job's first event on, so that the hash can be compared
    this.events = 0; // how many were applied
    this.deltas = []; // the deltas that survive: {id, data}
    this.position = null; // place in the queue, while queued
    this.started = null; // data of the last `started`
    this.progress = null;
    this.rollback = null; // data of the last `rollback`, until the next delta
    this.end = null; // {name, data} of the terminal event
    this.#unfold();
  }

  /**
   * Applies one event. `data` is the event's data as it came, `id` the reader's last event id.
   * Returns false, and changes nothing, when the event was applied before.
   */
  apply(name, data, id) {
    const value = JSON.parse(data);
    if (name === "gap") {
      this.forget();
      return true;
    }
    if (name === "position") {
      this.position = value.position ?? null;
      return true;
    }
    const parsed = parseId(id);
    const last = this.lastId && parseId(this.lastId);
    if (!parsed || (last && !isAfter(parsed, last))) return false;
    if (!last) this.whole = id === "0-1";
    this.lastId = id;
    this.events += 1;
    if (TERMINAL.includes(name)) this.end = { name, data: value };
    else this.#take(name, value, parsed, data);
    return true;
  }

  #take(name, value, id, data) {
    if (name === "queued") this.position = value.position ?? null;
    else if (name === "started") this.started = value;
    else if (name === "progress") this.progress = value;
    else if (name === "rollback") this.#rollBack(value);
    else if (name === "delta") {
      this.rollback = null;
      this.deltas.push({ id, data });
      this.#fold(value);
    }
  }

  #rollBack(value) {
    const to = parseId(value.to);
    this.rollback = value;
    this.deltas = to ? this.deltas.filter(({ id }) => !isAfter(id, to)) : [];
    this.#unfold();
    for (const { data } of this.deltas) this.#fold(JSON.parse(data));
  }

  #unfold() {
    this.content = "";
    this.reasoning = "";
    this.refusal = "";
    this.tools = []; // {name, arguments}
  }

  /** Adds one delta of an OpenAI chat chunk to the answer; only the first choice is shown. */
  #fold(delta) {
    if (delta.index) return;
    const text = (value) => (typeof value === "string" ? value : "");
    this.content += text(delta.content);
    this.reasoning += text(delta.reasoning_content ?? delta.reasoning);
    this.refusal += text(delta.refusal);
    for (const call of delta.tool_calls ?? []) {
      const tool = (this.tools[call.index ?? 0] ??= { name: "", arguments: "" });
      tool.name += text(call.function?.name);
      tool.arguments += text(call.function?.arguments);
    }
  }

  /** True when the end's SHA-256 proves that every surviving delta arrived; false also if it is unknown. */
  async isProven() {
    const expected = this.end?.data.sha256;
    if (!expected || !this.whole || !globalThis.crypto?.subtle) return false;
    const bytes = new TextEncoder().encode(this.deltas.map(({ data }) => data).join(""));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === expected;
  }
}
