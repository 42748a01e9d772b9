// Vercel's AI SDK, with its provider for OpenAI, which speaks /v1/responses, and the one for all that are compatible.
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  Output, defaultSettingsMiddleware, embedMany, generateObject, generateText, stepCountIs, streamText, tool,
  wrapLanguageModel,
} from 'ai';
import { City, Weather } from './city.mjs';
import { MODEL, PNG, QUESTION, WARMTH, WEATHER, call, piecesUntilItBroke, serve, weather } from './features.mjs';

const TOOLS = {
  weather: tool({ description: WEATHER, inputSchema: Weather, execute: weather }),
};
const callOf = ({ toolName, input, toolCallId }) => call(toolName, input, toolCallId);
const tokens = ({ inputTokens, outputTokens }) => [inputTokens, outputTokens];

class Model {
  async plain() {
    const got = await generateText({ model: this._model, prompt: QUESTION });
    return { text: got.text, finish: got.finishReason, tokens: tokens(got.usage) };
  }

  async streamed() {
    const got = streamText({ model: this._model, prompt: QUESTION });
    const pieces = [];
    for await (const piece of got.textStream) pieces.push(piece);
    return { pieces, finish: await got.finishReason, tokens: tokens(await got.usage) };
  }

  async tools() {
    const got = await generateText({ model: this._model, prompt: WARMTH, tools: TOOLS, stopWhen: stepCountIs(2) });
    const [first] = got.steps;
    return { call: callOf(first.toolCalls[0]), finish: first.finishReason, text: got.text };
  }

  async streamed_tools() {
    const got = streamText({ model: this._model, prompt: WARMTH, tools: TOOLS });
    const [called] = await got.toolCalls;
    return { call: callOf(called), finish: await got.finishReason };
  }

  async forced_tool() {
    const chosen = { type: 'tool', toolName: 'weather' };
    const got = await generateText({ model: this._model, prompt: WARMTH, tools: TOOLS, toolChoice: chosen });
    return { call: callOf(got.toolCalls[0]), finish: got.finishReason };
  }

  async structured() {
    return (await generateObject({ model: this._model, prompt: QUESTION, schema: City })).object;
  }

  async json_mode() {
    return (await generateText({ model: this._model, prompt: QUESTION, output: Output.json() })).output;
  }

  async images() {
    const content = [{ type: 'text', text: QUESTION }, { type: 'image', image: PNG }];
    return (await generateText({ model: this._model, messages: [{ role: 'user', content }] })).text;
  }

  async embeddings() {
    return (await embedMany({ model: this._embedding, values: ['one', 'two'] })).embeddings;
  }

  async refused() {
    return (await generateText({ model: this._model, prompt: QUESTION })).text;
  }

  async broken() {
    return piecesUntilItBroke(this._pieces());
  }

  async *_pieces() {
    for await (const part of streamText({ model: this._model, prompt: QUESTION, onError() {} }).fullStream) {
      if (part.type === 'text-delta') yield part.text;
      if (part.type === 'error') throw part.error;
    }
  }
}

class OpenAI extends Model {
  constructor(url) {
    super();
    this._provider = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'none' });
    this._model = this._provider(MODEL);
    this._embedding = this._provider.embedding(MODEL);
  }

  // The text of the answer to a second question, whose conversation has the answer to the first one.
  async _second(model) {
    const messages = [{ role: 'user', content: QUESTION }];
    const first = streamText({ model, messages });
    await first.consumeStream();
    messages.push(...(await first.response).messages, { role: 'user', content: WARMTH });
    return (await generateText({ model, messages })).text;
  }

  async _second_by_default() {
    return this._second(this._model).catch(({ message }) => message);
  }

  async _second_unstored() {
    const settings = { providerOptions: { openai: { store: false } } };
    return this._second(wrapLanguageModel({ model: this._model, middleware: defaultSettingsMiddleware({ settings }) }));
  }

  async _second_by_chat() {
    return this._second(this._provider.chat(MODEL));
  }
}

class Compatible extends Model {
  constructor(url) {
    super();
    const where = { name: 'sluice', baseURL: `${url}/v1` };
    const provider = createOpenAICompatible({ ...where, includeUsage: true, supportsStructuredOutputs: true });
    this._model = provider(MODEL);
    this._embedding = provider.embeddingModel(MODEL);
  }
}

await serve(OpenAI, Compatible);
