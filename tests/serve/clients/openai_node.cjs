// openai for Node against a running server: node openai_node.cjs BASE_URL MODEL; prints JSON.
const OpenAI = require("openai");

async function main(baseURL, model) {
  const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
  const messages = [{ role: "user", content: "Why is the sky blue?" }];
  const told = {};
  told.models = (await client.models.list()).data.map((each) => each.id);
  const whole = await client.chat.completions.create({ model, messages, tpo: { depth: 1 } });
  told.whole = whole.choices[0].message.content;
  told.run = whole.tpo.run_id;
  told.streamed = "";
  told.progress = "";
  const stream = await client.chat.completions.create({
    model, messages, tpo: { depth: 1 }, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    told.streamed += chunk.choices[0]?.delta?.content ?? "";
    told.progress += chunk.choices[0]?.delta?.reasoning_content ?? "";
    told.tokens = chunk.usage?.total_tokens ?? told.tokens;
  }
  const events = client.responses.stream({ model, input: "Why is the sky blue?", store: false });
  told.response = (await events.finalResponse()).output_text;
  try {
    await client.chat.completions.create({ model, messages, tpo: { dept: 1 } });
  } catch (error) {
    told.refused = [error.constructor.name, error.status];
  }
  console.log(JSON.stringify(told));
}

main(...process.argv.slice(2));
