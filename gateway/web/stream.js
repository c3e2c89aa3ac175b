/* One job's event stream: an EventSource that is opened again after each break.
   Above it: chat.js. Below it: transcript.js, which decides what an event means.
   EventSource reconnects by itself after a broken connection, but any answer other than 200 closes it for good:
   then the job is asked for, and the stream is opened again from the last id, with back-off. */

import { TERMINAL, Transcript } from "./transcript.js";

const EVENTS = ["queued", "position", "started", "delta", "progress", "rollback", "gap", ...TERMINAL];
// Heartbeats are comments, which EventSource hides: after this much silence the connection is made anew.
const SILENCE_MS = 45_000;
// Deltas that come this soon after the connection opened are history, and do not count for the speed.
const REPLAY_MS = 400;

/** Milliseconds before try `n` (from 0): 0.5 s doubling to 15 s, the later half of it by chance. */
export function backOff(n) {
  return Math.min(15_000, 500 * 2 ** n) * (0.5 + Math.random() / 2);
}

export class JobStream {
  connection = "connecting"; // connecting | open | lost
  transcript = new Transcript();
  firstMs = null; // from the sending to the first delta, when this page saw both
  #events;
  #hooks;
  #sentAt;
  #source = null;
  #timer = 0;
  #watchdog = 0;
  #failures = 0;
  #replayed = false; // read once more from the start, because the job had ended unseen
  #openedAt = Infinity;
  #era = 0; // incremented with every close: an answer of an earlier era is ignored
  #rate = null; // {from, until, count}: deltas seen live

  /**
   * `events`: the job's event link. `sentAt`: performance.now() of the POST, or null if the page was opened later.
   * Hooks: `load()` resolves to the job, or null if it is no longer stored, and rejects if the gateway does not answer;
   * `changed()`; `ended(name, data)`, once, data as in the terminal event; `gone()`, once.
   */
  constructor(events, sentAt, hooks) {
    this.#events = events;
    this.#sentAt = sentAt;
    this.#hooks = hooks;
    this.#connect();
  }

  close() {
    this.#era += 1;
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
  }

  /** Opens the stream again at once, from the last id. */
  reopen() {
    this.close();
    this.#connect();
  }

  /** Deltas a second since they came live, or null. */
  get rate() {
    const { from, until, count } = this.#rate ?? {};
    return until - from > 200 ? (count * 1000) / (until - from) : null;
  }

  #connect() {
    const url = new URL(this.#events, location.href);
    if (this.transcript.lastId) url.searchParams.set("last_event_id", this.transcript.lastId);
    const source = (this.#source = new EventSource(url));
    source.onopen = () => this.#opened();
    source.onerror = () => this.#failed(source);
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => source === this.#source && this.#take(name, event));
    }
    this.#watch();
  }

  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.reopen(), SILENCE_MS);
  }

  #opened() {
    this.connection = "open";
    this.#failures = 0;
    this.#openedAt = performance.now();
    this.#watch();
    this.#hooks.changed();
  }

  #failed(source) {
    if (source !== this.#source) return;
    this.connection = "lost";
    this.#hooks.changed();
    if (source.readyState === EventSource.CLOSED) this.#loadLater();
    else this.#watch();
  }

  #take(name, event) {
    this.#watch();
    if (!this.transcript.apply(name, event.data, event.lastEventId)) return;
    if (name === "delta") this.#measure();
    if (name === "rollback") this.#rate = null;
    const { end } = this.transcript;
    if (!end) return this.#hooks.changed();
    this.close();
    this.#hooks.ended(end.name, end.data);
  }

  #measure() {
    const now = performance.now();
    if (this.#rate) {
      this.#rate.count += 1;
      this.#rate.until = now;
    } else if (this.#sentAt !== null || now - this.#openedAt > REPLAY_MS) {
      this.#rate = { from: now, until: now, count: 0 };
    }
    if (this.#sentAt !== null) this.firstMs ??= now - this.#sentAt;
  }

  #loadLater() {
    this.close();
    this.#timer = setTimeout(() => this.#load(), backOff(this.#failures++));
  }

  async #load() {
    const era = this.#era;
    let job;
    try {
      job = await this.#hooks.load();
    } catch {
      if (era === this.#era) this.#loadLater();
      return;
    }
    if (era !== this.#era) return;
    if (!job) return this.#hooks.gone();
    this.#events = job.links?.events ?? this.#events;
    if (!TERMINAL.includes(job.status)) return this.#connect();
    if (this.#replayed) return this.#hooks.ended(job.status, job);
    this.#replayed = true;
    this.transcript.forget();
    this.#connect();
  }
}
