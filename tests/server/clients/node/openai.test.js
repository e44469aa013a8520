// OpenAI's package for Node as it comes, against the server whose address is in QWENVL_ADDRESS.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const SEEN = "a green circle, two green stars and a blue star";
const picture = readFileSync(new URL("../../../../examples/images/shapes.png", import.meta.url)).toString("base64");
const client = new OpenAI({ baseURL: `${process.env.QWENVL_ADDRESS}/v1`, apiKey: "none", maxRetries: 0 });

const asked = (text) => ({
  model: "demo",
  max_tokens: 800,
  messages: [
    {
      role: "user",
      content: [
        { type: "image_url", image_url: { url: `data:image/png;base64,${picture}` } },
        { type: "text", text },
      ],
    },
  ],
});

test("models are listed", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, ["demo"]);
});

test("a picture is described", async () => {
  const answer = await client.chat.completions.create(asked("What do you see?"));
  assert.equal(answer.choices[0].message.content, SEEN);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, 101);
});

test("a stream tells the same, and its usage", async () => {
  const body = { ...asked("What do you see?"), stream: true, stream_options: { include_usage: true } };
  let text = "";
  let usage = null;
  for await (const chunk of await client.chat.completions.create(body)) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage;
  }
  assert.equal(text, SEEN);
  assert.equal(usage.completion_tokens, 12);
});

test("a stream is left", async () => {
  const stream = await client.chat.completions.create({ ...asked("What do you see?"), ignore_eos: true, stream: true });
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    break;
  }
  assert.ok(stream.controller.signal.aborted);
});

test("several ask at once", async () => {
  const questions = ["What do you see?", "How many green shapes are there?"];
  const answers = await Promise.all(questions.map((text) => client.chat.completions.create(asked(text))));
  assert.deepEqual(answers.map((answer) => answer.choices[0].message.content), [SEEN, "3"]);
});

test("an answer is read by a schema", async () => {
  const scene = z.object({ color: z.enum(["red", "blue"]), isEmpty: z.boolean() });
  const body = { ...asked("What do you see?"), response_format: zodResponseFormat(scene, "scene") };
  const { message } = (await client.chat.completions.parse(body)).choices[0];
  assert.deepEqual(message.parsed, scene.parse(JSON.parse(message.content)));
});

test("a tool is called, run and answered", async () => {
  const painted = [];
  const run = ({ shape }) => {
    painted.push(shape);
    return `painted a ${shape}`;
  };
  const tool = zodFunction({ name: "paint", parameters: z.object({ shape: z.enum(["circle", "star"]) }), function: run });
  const how = { tools: [tool], tool_choice: { type: "function", function: { name: "paint" } }, parallel_tool_calls: false };
  const runner = client.chat.completions.runTools({ ...asked("What do you see?"), ...how });
  assert.match(await runner.finalFunctionToolCallResult(), /^painted a (circle|star)$/);
  assert.equal(painted.length, 1);
});

test("calls come in a stream", async () => {
  const tool = zodFunction({ name: "paint", parameters: z.object({ shape: z.enum(["circle", "star"]) }) });
  const body = { ...asked("What do you see?"), tools: [tool], tool_choice: "required", parallel_tool_calls: false };
  const stream = client.chat.completions.stream(body);
  const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
  assert.equal(call.function.name, "paint");
  assert.ok(["circle", "star"].includes(JSON.parse(call.function.arguments).shape));
});

test("errors are the client's own", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked("?"), model: "other" }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...asked("?"), temperature: 9 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
});
