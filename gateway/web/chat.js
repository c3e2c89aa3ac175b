/* The chat page's control. It connects the conversation (kept), the API (asked), a stream per
   unfinished answer (followed) and the view (shown). Nothing here is needed for a job to go on: closing the page
   loses its connection, and opening it again reads the job from its first event. */

import { Api } from "./api.js";
import { Conversation, hasEnded, storage } from "./conversation.js";
import { JobStream, backOff } from "./stream.js";
import { View } from "./view.js";

const KEY = "tailrace.key";
const MODEL = "tailrace.model";
// HTTP/1.1 gives an origin six connections over all its tabs: a tab that was hidden for this long closes its own.
const HIDDEN_MS = 20_000;
// Another tab sends this turn. If that tab has been closed meanwhile, this one sends it: it is the same job.
const FOREIGN_MS = 5_000;

const NO_KEY = {
  title: "This page needs an API key",
  text:
    "Open the address that Tailrace printed when it started, which carries the key (it ends in /#key=…), " +
    "or paste the key here.",
};
const BAD_KEY = {
  title: "The gateway does not know this key",
  text:
    "It may have been started anew with another one. Open the address it printed (it ends in /#key=…), " +
    "or paste its key here.",
};
const NOT_KEPT =
  "This browser keeps no data for this page, or has no room left: a reload will lose the conversation.";

const streams = new Map(); // answer id -> JobStream
const delays = new Map(); // answer id -> the reason why its sending waits
const sending = new Set(); // answers this tab is sending
let models = null; // names, once known
let key = null; // of this tab; another tab may have changed to another one
let offered = null; // a key from an address, until it is accepted or refused
let keyPrompt = null;
let away = false; // hidden for so long that its streams are closed
let awayTimer = 0;

const api = new Api(() => key, () => showKeyPrompt(BAD_KEY));
const conversation = new Conversation(() => sync(FOREIGN_MS));
const view = new View({ send, stop, again, reset, key: acceptKey, stay, change, model: chooseModel });

function draw() {
  const ready = Boolean(models && !keyPrompt && !offered && chosenModel());
  view.render({ turns: conversation.turns, streams, delays, keyPrompt, offered: Boolean(offered), ready });
}

function changed() {
  view.soon(draw);
}

// ── The key and the models ──

/**
 * The banner's address carries the key in its fragment; it is removed from the address bar and the history.
 * Any page can open such an address: another key than the one in use changes nothing until the user accepts it.
 */
function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return false;
  history.replaceState(null, "", location.pathname + location.search);
  const stored = storage.get(KEY);
  if (stored && stored !== given) {
    offered = given;
    changed();
    return false;
  }
  storage.set(KEY, given);
  return true;
}

function stay() {
  offered = null;
  changed();
}

function change() {
  acceptKey(offered);
}

function showKeyPrompt(why) {
  keyPrompt = why;
  changed();
}

function acceptKey(given) {
  offered = null;
  storage.set(KEY, given);
  useKey();
}

function useKey() {
  const former = key;
  key = storage.get(KEY);
  if (!key) return showKeyPrompt(NO_KEY);
  if (!/^[\x21-\x7e]+$/.test(key)) return showKeyPrompt(BAD_KEY); // could not even be sent
  keyPrompt = null;
  if (key !== former) {
    keepTexts();
    conversation.open(key);
  }
  loadModels();
  sync(0);
  if (conversation.running?.status === "stopping") stop();
}

function chooseModel(name) {
  storage.set(MODEL, name);
  changed();
}

function chosenModel() {
  const kept = storage.get(MODEL);
  return models?.length && !models.includes(kept) ? models[0] : kept;
}

async function loadModels() {
  for (let failures = 0; !keyPrompt; failures += 1) {
    try {
      models = await api.models();
      view.offerModels(models, chosenModel() ?? "");
      tellStorage();
      return changed();
    } catch (error) {
      if (error.status === 401) return;
      view.notify(`${error.message} Trying again…`);
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? backOff(failures)));
    }
  }
}

function tellStorage() {
  view.notify(storage.kept ? "" : NOT_KEPT);
}

// ── A question and its answer ──

/** Sends a message; false if that is not possible now. */
function send(text) {
  if (!models || keyPrompt || offered || !chosenModel()) return false;
  const turn = conversation.ask(text, chosenModel());
  if (turn) begin(turn);
  return Boolean(turn);
}

function again() {
  const turn = conversation.askAgain(chosenModel());
  if (turn) begin(turn);
}

function begin(turn) {
  tellStorage();
  view.follow();
  submit(turn);
  changed();
}

async function submit({ id, request, key }) {
  if (sending.has(id)) return;
  sending.add(id);
  const sentAt = performance.now();
  const waiting = (error, ms) => {
    const wait = error.retryAfterMs ? ` in ${Math.ceil(ms / 1000)} s` : "";
    delays.set(id, `${error.message} Trying again${wait}…`);
    changed();
  };
  try {
    const job = await api.submit(request, key, waiting, () => conversation.turn(id)?.status === "sending");
    accept(id, job, sentAt);
  } catch (error) {
    // Refused for its key, it stays as it is, and goes out again when there is another.
    if (error.status === 401) return;
    conversation.change(id, { status: "failed", error: { message: error.message, code: error.code } });
  } finally {
    sending.delete(id);
    delays.delete(id);
    changed();
  }
}

/** Handles the answer of the POST: `job`, or null if it was stopped before a job existed. */
function accept(id, job, sentAt) {
  const turn = conversation.turn(id);
  if (!job) return conversation.change(id, { status: "cancelled" });
  if (!turn || hasEnded(turn)) return cancel(job.links.cancel, () => true); // no turn waits for it any more
  const status = turn.status === "stopping" ? "stopping" : "reading";
  const accepted = conversation.change(id, { status, job: { id: job.id, ...job.links }, request: undefined });
  follow(accepted, sentAt);
  if (status === "stopping") stop();
}

function follow(turn, sentAt = null) {
  if (streams.has(turn.id) || away) return;
  const stream = new JobStream(turn.job.events, sentAt, {
    load: () => api.job(turn.job.self),
    changed,
    ended: (name, data) => finish(turn.id, stream, name, data),
    gone: () => settle(turn.id, { status: "gone", ...kept(stream) }),
  });
  streams.set(turn.id, stream);
}

async function finish(id, stream, name, data) {
  const { rate, firstMs, transcript } = stream;
  const verified = await transcript.isProven();
  const tokens = data.usage?.completion_tokens;
  const deltas = transcript.deltas.length;
  const perSecond = rate && tokens && deltas ? (rate * tokens) / deltas : rate;
  const figures = { tokens, perSecond, firstMs, events: data.events };
  const { error, finish_reason: finish } = data;
  settle(id, { status: name, ...kept(stream), error, finish, figures, verified });
}

function settle(id, patch) {
  conversation.change(id, patch);
  streams.get(id)?.close();
  streams.delete(id);
  tellStorage();
  changed();
}

/** Returns the part of a stream to store; nothing while it is empty, so that a stored text stays. */
function kept({ transcript }) {
  if (!transcript.lastId) return {};
  const { content, reasoning, refusal, tools } = transcript;
  return { text: content, reasoning, refusal, tools };
}

function stop() {
  const turn = conversation.running;
  if (!turn) return;
  const isOut = turn.job || sending.has(turn.id);
  conversation.change(turn.id, { status: isOut ? "stopping" : "cancelled" });
  if (turn.job) cancel(turn.job.cancel, () => conversation.turn(turn.id)?.status === "stopping");
  changed();
}

async function cancel(link, wanted) {
  try {
    await api.cancel(link, wanted);
  } catch (error) {
    view.notify(`The answer could not be stopped. ${error.message}`);
  }
}

/** Begins a new conversation. The old one can be restored until the next message; its running answer is stopped. */
function reset() {
  const { running } = conversation;
  keepTexts();
  if (running) conversation.change(running.id, { status: "stopping" });
  if (running?.job) cancel(running.job.cancel, () => true);
  const former = conversation.replace([]);
  sync(0);
  view.notify("The conversation was cleared.", "Undo", () => {
    if (!conversation.turns.length) conversation.replace(former);
    view.notify("");
    sync(0);
  });
}

// ── The same in every tab, and after every interruption ──

/** Opens the streams of unfinished turns and closes the others; a turn that is being sent is sent again after `delayMs`. */
function sync(delayMs) {
  for (const [id, stream] of streams) {
    const turn = conversation.turn(id);
    if (turn && !hasEnded(turn)) continue;
    stream.close();
    streams.delete(id);
  }
  const turn = conversation.running;
  if (turn?.job) follow(turn);
  else if (turn) setTimeout(() => resend(turn.id), delayMs);
  changed();
}

function resend(id) {
  const turn = conversation.turn(id);
  if (turn && !turn.job && !hasEnded(turn) && !keyPrompt) submit(turn);
}

/** Stores the text so far: it survives even if the job is gone when the page returns. */
function keepTexts() {
  for (const [id, stream] of streams) conversation.change(id, kept(stream));
}

function reopenStreams() {
  for (const stream of streams.values()) stream.reopen();
}

function leave() {
  away = true;
  for (const stream of streams.values()) stream.close();
}

function comeBack() {
  away = false;
  reopenStreams();
  sync(FOREIGN_MS);
}

function noticeVisibility() {
  clearTimeout(awayTimer);
  if (document.hidden) awayTimer = setTimeout(leave, HIDDEN_MS);
  else if (away) comeBack();
}

document.addEventListener("visibilitychange", noticeVisibility);
addEventListener("pagehide", keepTexts);
addEventListener("pageshow", (event) => event.persisted && comeBack());
addEventListener("online", () => away || reopenStreams());
addEventListener("hashchange", () => takeKeyFromAddress() && useKey());
addEventListener("storage", (event) => event.key === KEY && keyPrompt && useKey());

noticeVisibility();
takeKeyFromAddress();
useKey();
