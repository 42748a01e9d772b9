// Ollama's own library.
import { Ollama } from 'ollama';
import { z } from 'zod';
import { City } from './city.mjs';
import {
  CITY_PARAMETER, MODEL, PNG, QUESTION, WARMTH, WEATHER, call, piecesUntilItBroke, serve, weather,
} from './features.mjs';

const messages = [{ role: 'user', content: QUESTION }];
const FUNCTION = { name: 'weather', description: WEATHER, parameters: CITY_PARAMETER };
const tools = [{ type: 'function', function: FUNCTION }];
const CITY = z.toJSONSchema(City);

// The end of an answer, as the tests want it.
const end = ({ done_reason: finish, prompt_eval_count: prompt, eval_count: answer }) => ({
  finish,
  tokens: [prompt, answer],
});

// `/api/chat`, `/api/embed`, `/api/tags`, `/api/show` and `/api/ps`.
class Chat {
  constructor(url) {
    this._client = new Ollama({ host: url });
  }

  async plain() {
    const got = await this._client.chat({ model: MODEL, messages });
    return { text: got.message.content, ...end(got) };
  }

  async streamed() {
    const chunks = [];
    for await (const chunk of await this._client.chat({ model: MODEL, messages, stream: true })) chunks.push(chunk);
    const last = chunks.pop();
    return { pieces: chunks.map((chunk) => chunk.message.content), ...end(last) };
  }

  async tools() {
    const asked = [{ role: 'user', content: WARMTH }];
    const got = await this._client.chat({ model: MODEL, messages: asked, tools });
    const [{ function: called }] = got.message.tool_calls;
    asked.push(got.message, { role: 'tool', tool_name: called.name, content: weather(called.arguments) });
    const text = (await this._client.chat({ model: MODEL, messages: asked, tools })).message.content;
    return { call: call(called.name, called.arguments), finish: got.done_reason, text };
  }

  async streamed_tools() {
    const asked = [{ role: 'user', content: WARMTH }];
    const calls = [];
    let finish;
    for await (const chunk of await this._client.chat({ model: MODEL, messages: asked, tools, stream: true })) {
      calls.push(...(chunk.message.tool_calls ?? []));
      finish = chunk.done_reason;
    }
    const [{ function: called }] = calls;
    return { call: call(called.name, called.arguments), finish };
  }

  async structured() {
    return JSON.parse((await this._client.chat({ model: MODEL, messages, format: CITY })).message.content);
  }

  async json_mode() {
    return JSON.parse((await this._client.chat({ model: MODEL, messages, format: 'json' })).message.content);
  }

  async images() {
    const asked = [{ role: 'user', content: QUESTION, images: [PNG] }];
    return (await this._client.chat({ model: MODEL, messages: asked })).message.content;
  }

  async embeddings() {
    return (await this._client.embed({ model: MODEL, input: ['one', 'two'] })).embeddings;
  }

  async models() {
    const { models: stored } = await this._client.list();
    const { models: loaded } = await this._client.ps();
    const shown = await this._client.show({ model: stored[0].model });
    if (loaded[0].model !== stored[0].model || !shown.capabilities.includes('completion')) throw new Error('differ');
    return stored.map(({ model }) => model);
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const chunk of await this._client.chat({ model: MODEL, messages, stream: true })) {
      yield chunk.message.content;
    }
  }
}

// `/api/generate` and `/api/embeddings`.
class Generate {
  constructor(url) {
    this._client = new Ollama({ host: url });
  }

  async plain() {
    const got = await this._client.generate({ model: MODEL, prompt: QUESTION });
    return { text: got.response, ...end(got) };
  }

  async streamed() {
    const chunks = [];
    const asked = { model: MODEL, prompt: QUESTION, stream: true };
    for await (const chunk of await this._client.generate(asked)) chunks.push(chunk);
    const last = chunks.pop();
    return { pieces: chunks.map((chunk) => chunk.response), ...end(last) };
  }

  async structured() {
    return JSON.parse((await this._client.generate({ model: MODEL, prompt: QUESTION, format: CITY })).response);
  }

  async json_mode() {
    return JSON.parse((await this._client.generate({ model: MODEL, prompt: QUESTION, format: 'json' })).response);
  }

  async images() {
    return (await this._client.generate({ model: MODEL, prompt: QUESTION, images: [PNG] })).response;
  }

  async embeddings() {
    const one = async (prompt) => (await this._client.embeddings({ model: MODEL, prompt })).embedding;
    return [await one('one'), await one('two')];
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const chunk of await this._client.generate({ model: MODEL, prompt: QUESTION, stream: true })) {
      yield chunk.response;
    }
  }
}

await serve(Chat, Generate);
