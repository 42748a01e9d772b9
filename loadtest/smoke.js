// Does a release answer at all, correctly, and whole? A minute of a few questions at low load, after every sync.
// From the environment, beside what lib.js reads: REPORT, a folder that exists; the report is written to it, and to the
// file `verdict` there what came out: passed, bad, or busy. A question that only got refusals because others have the
// service's slots says nothing about the release: then the verdict is busy, unless other answers were bad.
import { check, sleep } from 'k6'
import exec from 'k6/execution'
import { Counter, Rate } from 'k6/metrics'
import {
  attempt,
  awaitTarget,
  getModels,
  isBusy,
  model,
  patience,
  requireTarget,
  retries,
  target,
  timeout,
  withTag,
} from './lib.js'

// Ones that a model of 270M parameters gets right; more than one may be beyond it.
const QUESTIONS = [
  ['What is 2 + 2?', /\b(4|four)\b/i],
  ['What is the capital of France?', /paris/i],
  ['What color is the sky on a clear day?', /blue/i],
  ['What is the opposite of hot?', /cold/i],
]
const right = new Rate('right')
const wrong = new Counter('wrong') // a limit on their share would judge a few answers by chance
// Refusals are no failures: a client that comes back when it was told to still gets its answer.
const refused = new Counter('refused')
const busy = new Counter('busy') // questions that weren't answered in time because of others' load
const SECONDS = Number(__ENV.SECONDS || 240) // for all questions, with their retries

export const options = {
  setupTimeout: `${patience + SECONDS + 60}s`,
  scenarios: {
    smoke: {
      executor: 'shared-iterations',
      vus: 2,
      iterations: 2 * QUESTIONS.length,
      maxDuration: `${SECONDS + timeout}s`,
    },
  },
  thresholds: {
    checks: ['rate==1'],
    iterations: [`count==${2 * QUESTIONS.length}`], // fewer: it hung
    wrong: [`count<=${QUESTIONS.length / 2}`],
  },
}

/** Waits while others' load is in the way, and says until when to ask: null if the load has blocked even this. */
export function setup() {
  awaitTarget()
  const until = Date.now() + SECONDS * 1000
  while (target && isBusy(getModels())) {
    if (Date.now() > until) return null
    sleep(1)
  }
  requireTarget()
  return until
}

export default function (until) {
  if (until === null) return busy.add(1)
  const number = exec.scenario.iterationInTest // each question once whole, once streamed
  const [prompt, answer] = QUESTIONS[number % QUESTIONS.length]
  const stream = number >= QUESTIONS.length
  const reply = generate({ prompt, stream, temperature: 0, max_tokens: 32 }, until)
  if (isBusy(reply)) return busy.add(1)
  const text = readAnswer(reply, stream)
  const isRight = text !== null && answer.test(text)
  right.add(isRight)
  wrong.add(!isRight)
}

/** Sends a body, again when a refusal says when, while others' load is the reason for as long as there is time. */
function generate(body, until) {
  for (let attempts = 1; ; attempts++) {
    const { reply, wait } = attempt(body)
    if (reply.status !== 429 && reply.status !== 503) return reply
    refused.add(1)
    const polite = check(reply, { 'a refusal says when to come back': () => wait > 0 })
    const late = Date.now() + wait * 1000 > until
    if (!polite || late || (attempts > retries && !isBusy(reply))) return reply
    sleep(wait)
  }
}

/** Checks that a reply is a whole answer of the right model, and returns its text: null if it isn't. */
function readAnswer(reply, stream) {
  const pieces = reply.status === 200 ? parse(reply.body, stream) : []
  const last = pieces[pieces.length - 1] || {}
  const text = pieces.map((piece) => piece.response).join('')
  const whole = check(reply, {
    'status is 200': () => reply.status === 200,
    'the answer is complete': () => ['stop', 'length'].includes(last.finish_reason) && (last.done || !stream),
    'the answer is not empty': () => text.trim() !== '' && last.usage?.completion_tokens > 0,
    'the model is the right one': () => withTag(last.model) === withTag(model),
  })
  return whole ? text : null
}

function parse(body, stream) {
  try {
    return (stream ? body.trim().split('\n') : [body]).map((line) => JSON.parse(line))
  } catch {
    return [] // cut off, or no JSON at all
  }
}

/** Writes the report: every figure as JSON, and a page of Markdown that also goes to the terminal. */
export function handleSummary(data) {
  const text = markdown(data)
  const files = { stdout: text }
  if (__ENV.REPORT) {
    files[`${__ENV.REPORT}/verdict`] = verdict(data)
    files[`${__ENV.REPORT}/report.json`] = JSON.stringify({ target, model, ...data }, null, 1)
    files[`${__ENV.REPORT}/summary.md`] = text
  }
  return files
}

/** Says what is known of the release: an answer that was bad is, whatever else happened. */
function verdict({ metrics }) {
  const limits = Object.values(metrics).flatMap(({ thresholds }) => Object.values(thresholds ?? {}))
  return limits.some(({ ok }) => !ok) ? 'bad' : metrics.busy ? 'busy' : 'passed'
}

function markdown({ metrics, root_group: { checks } }) {
  const count = (name) => metrics[name]?.values.count ?? 0
  const duration = metrics.http_req_duration?.values ?? {}
  const time = (name) => `${((duration[name] ?? 0) / 1000).toFixed(2)} s`
  const limits = Object.entries(metrics).flatMap(([name, { thresholds }]) =>
    Object.entries(thresholds ?? {}).map(([limit, { ok }]) => `| ${name} ${limit} | ${ok ? 'passed' : '**failed**'} |`),
  )
  const lines = checks.map(({ name, passes, fails }) => `| ${name} | ${passes} of ${passes + fails} |`)
  return [
    `**${model}** at ${target}: ${count('http_reqs')} requests, ${count('refused')} refused,`,
    ...(count('busy') ? [`${count('busy')} of ${2 * QUESTIONS.length} questions not judged: busy,`] : []),
    `median ${time('med')}, longest ${time('max')}.\n`,
    ['| | |\n|---|---|', ...limits, ...lines].join('\n'),
    '',
  ].join('\n')
}
