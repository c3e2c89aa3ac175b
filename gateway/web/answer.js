/* The description of one answer: its text, its state while it waits, its end, its measurements.
   Pure: turns and streams in, sentences out. Above it: view.js, which puts them on the page. */

import { hasEnded } from "./conversation.js";

function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function counted(n, word) {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}

/** While it runs, a delta counts as a token; the usage in the terminal event is exact. */
function liveFigures(stream) {
  if (!stream?.transcript.deltas.length) return {};
  const { transcript, rate, firstMs } = stream;
  return { perSecond: rate, about: "≈ ", firstMs, events: transcript.events };
}

/** Returns the counts and times that this page has measured. */
export function figures(turn, stream) {
  const known = hasEnded(turn) ? (turn.figures ?? {}) : liveFigures(stream);
  const { tokens, perSecond, about = "", firstMs, events } = known;
  const parts = [];
  if (tokens != null) parts.push(counted(tokens, "token"));
  if (perSecond != null) parts.push(`${about}${perSecond.toFixed(perSecond < 10 ? 1 : 0)} tokens/s`);
  if (firstMs != null) parts.push(`first token after ${seconds(firstMs)}`);
  if (events) parts.push(counted(events, "event"));
  // Lines break between parts only, and an em space, unlike a dot, is not seen at the end of one.
  return parts.map((part) => part.replaceAll(" ", "\u00a0")).join("\u2003");
}

/** Returns the reason why an answer waits, as a sentence; "" while its text arrives. */
export function waitingFor(turn, stream, delay) {
  if (turn.status === "sending") return delay ?? "Sending…";
  const lost = stream?.connection === "lost";
  if (turn.status === "stopping") return lost ? "Stopping… Reconnecting…" : "Stopping…";
  if (lost) return "Connection lost. Reconnecting…";
  const { transcript } = stream ?? {};
  if (!transcript?.lastId) return "Connecting…";
  const { rollback, progress, started, position, deltas } = transcript;
  if (rollback) return "The worker had to start over. The answer begins again…";
  if (progress) return progressed(progress);
  if (deltas.length) return "";
  if (started?.attempt > 1) return `Waiting for the first token, attempt ${started.attempt}…`;
  if (started) return "Waiting for the first token…";
  return position > 1 ? `Queued, position ${position}…` : "Queued…";
}

function progressed({ done, total, message }) {
  return [message, total && `${done} of ${total}`].filter(Boolean).join(", ");
}

/** Returns the notes on an ended answer, beside its text. */
export function remark(turn) {
  if (turn.status === "cancelled") return "Stopped.";
  if (turn.finish === "length") return "Cut off at the length limit.";
  if (turn.finish === "content_filter") return "Cut off by the provider's content filter.";
  const isEmpty = !turn.text && !turn.refusal && !turn.tools?.length;
  return turn.status === "completed" && isEmpty ? "The answer is empty." : "";
}

/** Returns the failure as {sentence, code}, or null. */
export function trouble(turn) {
  if (turn.status === "gone") {
    return { sentence: "The gateway no longer keeps this job, so the rest of the answer can't be read." };
  }
  if (turn.status === "expired") return { sentence: "The job ran out of time.", code: turn.error?.code };
  if (turn.status === "failed") {
    return { sentence: turn.error?.message || "The job failed.", code: turn.error?.code };
  }
  return null;
}

/** Returns the announcement of the last turn for screen readers. */
export function spoken(turn, waiting) {
  if (!turn) return "";
  if (!hasEnded(turn)) return waiting || "Answering…";
  return trouble(turn)?.sentence ?? (remark(turn) || "The answer is complete.");
}

/** Returns the content of an answer, in one shape for running and ended ones. */
export function contents(turn, stream) {
  const { transcript } = stream ?? {};
  const source = !hasEnded(turn) && transcript?.lastId ? transcript : turn;
  const calls = (source.tools ?? []).map((tool) => `${tool.name}(${tool.arguments})`);
  const text = (source === turn ? turn.text : source.content) || source.refusal || "";
  const called = calls.length ? `\n\`\`\`\n${calls.join("\n")}\n\`\`\`` : "";
  return { text: text + called, reasoning: source.reasoning ?? "" };
}
