// The AI SDK: OpenAI's chat and Responses models and the OpenAI-compatible provider. Reads {"function", "model"} from
// stdin, line by line, and prints what it got as one line of JSON, as zoo.py does for Python's clients.

import { createInterface } from "node:readline";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const mode = process.argv[2];
const server = { baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY };
const question = "How are you?";
const questions = ["What is the weather in Bergen and in Oslo?", "And what is it in Tromsø?"];
const form = "Describe a forecast.";
const weather = { Bergen: "7 degrees", Oslo: "4 degrees", Tromsø: "1 degree" };
const called = [];
const tools = {
  get_weather: tool({
    description: "Get the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      called.push({ city });
      return `${city} has ${weather[city]}`;
    },
  }),
};

// `itself`: the whole conversation is sent back, and nothing is looked up by an id.
const ofResponses = {
  responses: { reasoningSummary: "auto" },
  itself: { reasoningSummary: "auto", store: false, include: ["reasoning.encrypted_content"] },
};

function chosen(model) {
  if (mode === "compatible") {
    const provider = createOpenAICompatible({ name: "zoo", includeUsage: true, supportsStructuredOutputs: true, ...server });
    return { model: provider.chatModel(model) };
  }
  const provider = createOpenAI(server);
  if (mode === "chat") return { model: provider.chat(model) };
  // The SDK keeps reasoning to itself unless it knows that the model reasons.
  return { model: provider.responses(model), providerOptions: { openai: { forceReasoning: true, ...ofResponses[mode] } } };
}

const options = (model) => ({ ...chosen(model), maxRetries: 0 });

async function text(model) {
  return { text: (await generateText({ ...options(model), prompt: question })).text };
}

async function stream(model) {
  const pieces = [];
  const thoughts = [];
  for await (const part of streamed({ ...options(model), prompt: question }).fullStream) {
    if (part.type === "text-delta") pieces.push(part.text);
    else if (part.type === "reasoning-delta") thoughts.push(part.text);
    else if (part.type === "error") throw part.error;
  }
  return { text: pieces.join(""), pieces: pieces.length, thoughts: thoughts.join("") };
}

function streamed(request) {
  return streamText({ onError: ({ error }) => console.error(error), ...request });
}

async function converse(model, ask) {
  let messages = [];
  const answers = [];
  for (const content of questions) {
    messages.push({ role: "user", content });
    const result = await ask({ ...options(model), messages, tools, stopWhen: stepCountIs(5) });
    answers.push(await result.text);
    messages = [...messages, ...(await result.response).messages];
  }
  return { answers, calls: called.splice(0) };
}

async function consumed(request) {
  const result = streamed(request);
  await result.consumeStream({ onError: (error) => console.error(error) });
  return result;
}

async function structured(model) {
  const schema = z.object({ city: z.string(), degrees: z.number() });
  const result = await generateText({ ...options(model), prompt: form, output: Output.object({ schema }) });
  return { value: result.output };
}

const functions = {
  text,
  stream,
  tools: (model) => converse(model, generateText),
  tools_stream: (model) => converse(model, consumed),
  structured,
};

// The client's own prints go to stderr.
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
console.log = console.info = console.error;

say({ functions: Object.keys(functions) }); // it is ready
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  called.length = 0;
  say(await functions[wanted.function](wanted.model));
}
