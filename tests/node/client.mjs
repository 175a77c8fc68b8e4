// Exercises the unmodified Node `openai` client; prints one JSON object of what it found.
// Arguments: base URL of the API, a tenant's key, the adapter, the base model's name.

import OpenAI from "openai";

const [baseURL, apiKey, model, base] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const stranger = new OpenAI({ baseURL, apiKey: `lpx_${"0".repeat(16)}_${"A".repeat(43)}`, maxRetries: 0 });

const messages = [{ role: "user", content: "How do I change my address?" }];
const greedy = { model, messages, max_tokens: 8, temperature: 0 };
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const weatherAsked = [{ role: "user", content: "What is the weather in Paris?" }];
// Not an object: a schema lets white space through, and an adapter this small may write only that.
const colour = { enum: ["red", "blue"] };

const chat = (fields) => client.chat.completions.create({ ...greedy, ...fields });

async function all(stream) {
  const found = [];
  for await (const item of await stream) found.push(item);
  return found;
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, param: error.param, code: error.code, message: error.message };
  }
  return null;
}

const plain = await chat({});
const text = plain.choices[0].message.content;
const counted = await all(chat({ stream: true, stream_options: { include_usage: true } }));
const uncounted = await all(chat({ stream: true }));
const joined = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");
const completion = { model, prompt: "The sea is", max_tokens: 6, temperature: 0 };
const response = { model, input: "How do I change my address?", max_output_tokens: 6, temperature: 0 };
const responseEvents = await all(client.responses.create({ ...response, stream: true }));
const listed = await all(client.models.list());
const stop = text.slice(Math.floor(text.length / 2)).slice(0, 4);
const longText = "word ".repeat(20000);

const found = {
  plain: { text, model: plain.model, usage: plain.usage },
  counted: { text: joined(counted), usage: counted.at(-1).usage },
  uncounted: { text: joined(uncounted), usages: uncounted.filter((chunk) => chunk.usage).length },
  completion: (await client.completions.create(completion)).choices[0].text,
  completionStreamed: (await all(client.completions.create({ ...completion, stream: true })))
    .map((chunk) => chunk.choices[0].text)
    .join(""),
  response: (await client.responses.create(response)).output_text,
  responseStreamed: responseEvents
    .filter((event) => event.type === "response.output_text.delta")
    .map((event) => event.delta)
    .join(""),
  responseUsage: responseEvents.at(-1).response.usage,
  models: listed.map((item) => item.id),
  retrieved: (await client.models.retrieve(plain.model)).id,
  base: (await chat({ model: base })).model,
  tool: (await chat({ messages: weatherAsked, tools: [weather], tool_choice: "required", max_tokens: 96 }))
    .choices[0].message.tool_calls?.[0].function,
  toolLeftToModel: (await chat({ tools: [weather], tool_choice: "auto" })).choices.length,
  json: (
    await chat({
      response_format: { type: "json_schema", json_schema: { name: "c", strict: true, schema: colour } },
      max_tokens: 32,
    })
  ).choices[0].message.content,
  logprobs: (await chat({ logprobs: true, top_logprobs: 2 })).choices[0].logprobs.content,
  many: (await chat({ n: 2, temperature: 1 })).choices.map((choice) => choice.index),
  stopped: { stop, choice: (await chat({ stop: [stop] })).choices[0] },
  failures: {
    key: await failure(() => stranger.chat.completions.create(greedy)),
    keyStreamed: await failure(() => stranger.chat.completions.create({ ...greedy, stream: true })),
    model: await failure(() => chat({ model: "nope" })),
    retrieve: await failure(() => client.models.retrieve("globex/nope")),
    long: await failure(() => chat({ messages: [{ role: "user", content: longText }] })),
    temperature: await failure(() => chat({ temperature: 9 })),
    n: await failure(() => chat({ n: 1000 })),
    embeddings: await failure(() => client.embeddings.create({ model, input: "x" })),
    stored: await failure(() => client.responses.retrieve("resp_1")),
    previous: await failure(() => client.responses.create({ ...response, previous_response_id: "resp_1" })),
  },
};
process.stdout.write(JSON.stringify(found));
