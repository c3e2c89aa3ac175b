// A page that chats with the AI SDK, without the page: `AbstractChat` is the class behind `useChat`. It reads commands
// on stdin, one JSON object a line, and answers each with the chat as it then is.
//
//   {"do": "open", "id": ..., "messages": [...]}  open the chat, as a page that is (re)loaded does; "body" is the transport's
//   {"do": "send" | "regenerate" | "resume" | "tool", ...}  begin a request, and don't wait for it
//   {"do": "stop"}  the hook's own stop(): it leaves the stream
//   {"do": "until", "text": ..., "status": ...}  wait until the last message's text begins with this, or for a status
//   {"do": "settle"}  wait for the end of all that was begun
//   {"do": "replay", "file": ...}  read a recorded stream, from a server that sends it whole

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const { AbstractChat, DefaultChatTransport } = await import(process.env.AI);
const headers = { authorization: `Bearer ${process.env.KEY}` };

class State {
  status = "ready";
  error = undefined;
  #messages;
  constructor(messages) {
    this.#messages = messages;
  }
  get messages() {
    return this.#messages;
  }
  set messages(messages) {
    this.#messages = messages;
    changed();
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, this.snapshot(message)));
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor({ id, messages = [], transport }) {
    super({ id, transport, state: new State(messages) });
  }
  setStatus(change) {
    super.setStatus(change);
    changed();
  }
}

let chat;
let begun = [];
let look = () => {};
const changed = () => look();

function transport({ body = {}, news = false, fetch } = {}) {
  const onlyNews = ({ id, messages, trigger, messageId, body, headers }) => ({
    headers,
    body: { ...body, id, message: messages.at(-1), trigger, messageId },
  });
  return new DefaultChatTransport({
    api: `${process.env.TAILRACE}/api/chat`,
    headers,
    body,
    ...(fetch && { fetch }),
    ...(news && { prepareSendMessagesRequest: onlyNews }),
  });
}

const textOf = (message) => message?.parts.flatMap((p) => (p.type === "text" ? [p.text] : [])).join("") ?? "";

async function until({ text, status }) {
  const so = () =>
    (text === undefined || (chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage).startsWith(text))) &&
    (status === undefined || chat.status === status);
  await new Promise((resolve) => {
    look = () => so() && resolve();
    look();
  });
  look = () => {};
}

async function replay({ file }) {
  const recorded = await readFile(file);
  const type = { "content-type": "text/event-stream" };
  chat = new Chat({ id: "replay", transport: transport({ fetch: async () => new Response(recorded, { headers: type }) }) });
  await chat.sendMessage({ text: "Say it." });
}

const commands = {
  open: ({ id, messages, ...options }) => (chat = new Chat({ id, messages, transport: transport(options) })),
  send: ({ text }) => begin(chat.sendMessage({ text })),
  regenerate: () => begin(chat.regenerate()),
  resume: () => begin(chat.resumeStream()),
  tool: async ({ tool, toolCallId, output }) => {
    await chat.addToolResult({ tool, toolCallId, output });
    begin(chat.sendMessage());
  },
  stop: () => chat.stop(),
  until,
  settle: async () => {
    await Promise.all(begun);
    begun = [];
  },
  replay,
};

function begin(request) {
  begun.push(request);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  await commands[name](options);
  const { status, error, messages } = chat;
  console.log(JSON.stringify({ status, error: error?.message ?? null, messages }));
}
process.exit(0);
