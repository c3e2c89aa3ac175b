/* The conversation of one API key: its turns, stored in localStorage, the same in every tab.
   It is not the stream: a running answer's text lives in its transcript and comes here when the job ends. */

import { TERMINAL } from "./transcript.js";

// Until keys had conversations of their own, there was one under this name.
const NAME = "tailrace.conversation";
const UNENDED = ["sending", "reading", "stopping"];
const isText = (value) => typeof value === "string";
const isLink = (value) => isText(value) && value.startsWith("/");

/** Uses localStorage; if the browser refuses it or it is full, the page's memory, and then `kept` is false. */
export const storage = {
  kept: true,
  memory: new Map(),
  get(name) {
    if (this.memory.has(name)) return this.memory.get(name);
    try {
      return localStorage.getItem(name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
      this.memory.delete(name);
    } catch {
      this.memory.set(name, value);
      this.kept = false;
    }
  },
  remove(name) {
    this.memory.delete(name);
    try {
      localStorage.removeItem(name);
    } catch {
      // Nothing was stored.
    }
  },
};

/** 128 random bits in hex; unlike crypto.randomUUID, this also works over plain HTTP. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A name for a key's conversation: 53 bits of a hash, which also works over plain HTTP. */
function nameFor(key) {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (const char of key) {
    high = Math.imul(high ^ char.codePointAt(0), 2654435761);
    low = Math.imul(low ^ char.codePointAt(0), 1597334677);
  }
  return `${NAME}.${((high >>> 0) * 2 ** 21 + (low >>> 11)).toString(36)}`;
}

/** Whether this is a turn as it is stored; anything else in the browser's storage is left out. */
function isTurn(turn) {
  if (!turn || typeof turn !== "object" || !isText(turn.id) || !isText(turn.text)) return false;
  if (turn.role === "user") return true;
  if (turn.role !== "assistant" || !isText(turn.status)) return false;
  if (turn.tools != null && !Array.isArray(turn.tools)) return false;
  if (hasEnded(turn)) return true;
  const { job, request, key } = turn;
  if (!UNENDED.includes(turn.status)) return false;
  if (!job) return Boolean(request) && typeof request === "object" && isText(key);
  return isText(job.id) && isLink(job.self) && isLink(job.events) && isLink(job.cancel);
}

export function hasEnded(turn) {
  return TERMINAL.includes(turn.status) || turn.status === "gone";
}

/**
 * A turn is {id, role: "user", text} or an answer:
 * {id, role: "assistant", status, text, ...}. Its status:
 *   sending   the POST has no answer yet; `request` and `key` are kept, to send exactly the same again
 *   reading   it is a `job` {id, self, events, cancel}
 *   stopping  a cancel was requested
 *   completed | failed | cancelled | expired   as the job ended
 *   gone      the gateway no longer stores the job
 */
export class Conversation {
  #turns = [];
  #name = null;

  /** `changed()` is called when another tab changed the conversation. */
  constructor(changed) {
    addEventListener("storage", (event) => {
      if (event.key !== this.#name && event.key !== null) return;
      this.#load();
      changed();
    });
  }

  /** Opens the conversation of a key. The one from before keys had their own belongs to the first key that opens one. */
  open(key) {
    this.#name = nameFor(key);
    const former = storage.get(NAME);
    if (former && !storage.get(this.#name)) storage.set(this.#name, former);
    if (former) storage.remove(NAME);
    this.#load();
  }

  get turns() {
    return this.#turns;
  }

  turn(id) {
    return this.#turns.find((turn) => turn.id === id);
  }

  /** The answer that is still to come, if any. */
  get running() {
    return this.#turns.find((turn) => turn.role === "assistant" && !hasEnded(turn));
  }

  /** Adds a question and the answer to be sent for; null while another answer is still to come, in any tab. */
  ask(text, model) {
    this.#load();
    if (this.running) return null;
    this.#turns.push({ id: randomId(), role: "user", text });
    return this.#expect(model);
  }

  /** Replaces the last answer by one to be sent for, which becomes a new job; null as for `ask`. */
  askAgain(model) {
    this.#load();
    if (this.running || this.#turns.at(-1)?.role !== "assistant") return null;
    this.#turns.pop();
    return this.#expect(model);
  }

  #expect(model) {
    const messages = this.#turns.filter(({ text }) => text).map(({ role, text }) => ({ role, content: text }));
    const request = { kind: "chat", model, messages };
    const turn = { id: randomId(), role: "assistant", status: "sending", text: "", key: randomId(), request };
    this.#turns.push(turn);
    this.#save();
    return turn;
  }

  /** Changes an answer, and returns it; undefined if it was removed. An ended answer stays as it is. */
  change(id, patch) {
    this.#load();
    const turn = this.turn(id);
    if (!turn || hasEnded(turn)) return turn;
    Object.assign(turn, patch);
    this.#save();
    return turn;
  }

  /** Replaces all turns (by none: a new conversation), and returns the former ones. */
  replace(turns) {
    this.#load();
    const former = this.#turns;
    this.#turns = turns;
    this.#save();
    return former;
  }

  #load() {
    let turns = null;
    try {
      turns = JSON.parse((this.#name && storage.get(this.#name)) ?? "[]");
    } catch {
      // Written by something else: begin anew rather than fail at every start.
    }
    this.#turns = Array.isArray(turns) ? turns.filter(isTurn) : [];
  }

  #save() {
    if (this.#name) storage.set(this.#name, JSON.stringify(this.#turns));
  }
}
