// Codex CLI's `exec` in its default configuration, with Tailrace as a provider of its own. Reads {"function", "model"}
// from stdin, line by line, and prints what it got as one line of JSON, as zoo.py does for Python's clients.

import { execFile } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const program = createRequire(import.meta.url).resolve("@openai/codex/bin/codex.js");
const home = join(process.cwd(), "codex-home");
const folder = join(process.cwd(), "work");

function configure(model) {
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home, { recursive: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(home, "config.toml"),
    [
      `model = "${model}"`,
      'model_provider = "tailrace"',
      "[model_providers.tailrace]",
      'name = "Tailrace"',
      `base_url = "${process.env.OPENAI_BASE_URL}"`,
      'env_key = "OPENAI_API_KEY"',
      'wire_api = "responses"',
    ].join("\n"),
  );
}

// Run one turn and return the agent's last message.
function turn(...words) {
  const options = { cwd: folder, env: { ...process.env, CODEX_HOME: home }, timeout: 40_000, killSignal: "SIGKILL" };
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [program, "exec", ...words], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stdout.slice(-2000)}\n${stderr.slice(-2000)}`));
      else resolve(lastMessage(stdout));
    });
    child.stdin.end();
  });
}

function lastMessage(stdout) {
  const all = stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const items = all.filter(({ type }) => type === "item.completed").map(({ item }) => item);
  return items.filter(({ type }) => type === "agent_message").at(-1)?.text ?? null;
}

const flags = ["--json", "--skip-git-repo-check"];
const functions = {
  async text(model) {
    configure(model);
    return { text: await turn(...flags, "How are you?") };
  },
  async commands(model) {
    configure(model);
    const first = await turn(...flags, "Please run: echo zoo-$((6*7))");
    const second = await turn("resume", "--last", ...flags, "Please run: echo owl-$((6*9))");
    return { answers: [first, second] };
  },
};

// The client's own prints go to stderr.
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
console.log = console.info = console.error;

say({ functions: Object.keys(functions) }); // it is ready
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  say(await functions[wanted.function](wanted.model));
}
