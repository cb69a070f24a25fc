// What tests/e2e/openai/test_node_client.py runs with Node: OpenAI's own package, as it is installed.
import { createRequire } from "node:module";

const [folder, baseURL, letters, writer] = process.argv.slice(2);
const OpenAI = createRequire(`${folder}/`)("openai").default;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const said = { model: writer, messages: [{ role: "user", content: "again " }], max_tokens: 12, temperature: 0 };
const found = {};

found.models = (await client.models.list()).data.map((model) => model.id);
found.vector = (await client.embeddings.create({ model: letters, input: ["a cat", "dog"] })).data[0].embedding;
found.whole = (await client.chat.completions.create(said)).choices[0].message.content;
found.parts = [];
for await (const chunk of await client.chat.completions.create({ ...said, stream: true })) {
  found.parts.push(chunk.choices[0].delta.content ?? "");
}
found.response = (await client.responses.create({ model: writer, input: "again ", max_output_tokens: 6, temperature: 0 })).output_text;
try {
  await client.chat.completions.create({ ...said, n: 2 });
} catch (error) {
  found.error = { name: error.constructor.name, status: error.status, param: error.param };
}
console.log(JSON.stringify(found));
