// OpenAI's client for JavaScript, with nothing changed but its address and key. It reads commands on stdin, one JSON
// object a line, and answers each with {"value": ..., "sent": n} or {"error": ..., "sent": n}: `sent` counts the requests
// of that call. A call is {"path": "chat.completions.create", "with": [...], "options": {...}}: a method, its arguments,
// and options of the client.
//
//   {"do": "call", ...}  the method's value
//   {"do": "all", "calls": [...]}  several at once
//   {"do": "begin", ...}  the same with a signal, and don't wait; "abort" it, and "end" is its result
//   {"do": "open", ...}  a stream, which "begin" and "end" may have opened too; the answer's headers
//   {"do": "read", "until": {...}, "most": n}  its events up to one that has these fields, or so many, or all
//   {"do": "leave"}  break out of the loop that reads it
//   {"do": "helped", ..., "final": [...]}  a helper's events, and the values of these methods of it

import { createInterface } from "node:readline";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.TAILRACE}/v1`, apiKey: process.env.KEY });

let begun, events, controller;

function start({ path, with: given = [], options = {} }, call, ...more) {
  const counting = (...request) => {
    call.sent += 1;
    return fetch(...request);
  };
  const names = path.split(".");
  const method = names.pop();
  const holder = names.reduce((at, name) => at[name], client.withOptions({ ...options, fetch: counting }));
  return holder[method](...given, ...more);
}

async function outcome(work, call) {
  try {
    return { value: (await work()) ?? null, sent: call.sent };
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    return { error: { class: error.constructor.name, message: error.message, status, code, param, type, requestID }, sent: call.sent };
  }
}

const calling = (work) => {
  const call = { sent: 0 };
  return outcome(() => work(call), call);
};

async function opened(promise) {
  const { data, response } = await promise.withResponse();
  events = data[Symbol.asyncIterator]();
  return Object.fromEntries(response.headers);
}

async function read({ until, most = Infinity }) {
  const found = [];
  const so = (event) => until && Object.entries(until).every(([name, value]) => event[name] === value);
  while (found.length < most) {
    const { value, done } = await events.next();
    if (done) break;
    found.push(value);
    if (so(value)) break;
  }
  return found;
}

async function helped({ final, ...what }, call) {
  const helper = start(what, call);
  const received = [];
  for await (const event of helper) received.push(event);
  return { events: received, final: Object.fromEntries(await Promise.all(final.map(async (name) => [name, await helper[name]()]))) };
}

const commands = {
  call: (what) => calling((call) => start(what, call)),
  all: async ({ calls }) => ({ value: await Promise.all(calls.map(commands.call)), sent: 0 }),
  begin: (what) => {
    controller = new AbortController();
    const { signal } = controller;
    begun = calling((call) => start(what, call, { signal }));
    return { value: null, sent: 0 };
  },
  abort: () => ({ value: controller.abort() ?? null, sent: 0 }),
  end: () => begun,
  open: (what) => {
    controller = new AbortController();
    const { signal } = controller;
    return calling((call) => opened(start(what, call, { signal })));
  },
  read: (what) => calling(() => read(what)),
  leave: () => calling(() => events.return()),
  helped: (what) => calling((call) => helped(what, call)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...what } = JSON.parse(line);
  console.log(JSON.stringify(await commands[name](what)));
}
process.exit(0);
