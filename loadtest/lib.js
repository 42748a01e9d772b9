// What the scenarios share: the target and its API, one question with its retries, and what counts as an answer.
// From the environment, as `python -m loadtest run` sets it: TARGET (the address), MODEL (by its name in Ollama), API
// (sluice, naive, ollama), API_KEY where keys are on, TIMEOUT (seconds, a client's patience with one attempt), RETRIES,
// MAX_TOKENS, PAUSE (seconds between two questions of a user), WARM_UP (questions before it counts), PATIENCE (seconds
// for which the smoke waits for a load balancer).
import { fail, sleep } from 'k6'
import encoding from 'k6/encoding'
import exec from 'k6/execution'
import http from 'k6/http'
import { Counter, Gauge, Rate, Trend } from 'k6/metrics'

// The address may have credentials, which must not be printed, and the /v1 that OpenAI's clients need.
const [, scheme = '', credentials, rest] = /^(\w+:\/\/)?(?:([^/]*)@)?(.*)$/.exec(__ENV.TARGET || '')
export const target = `${scheme}${rest}`.replace(/(\/v1)?\/*$/, '')
export const model = __ENV.MODEL
export const timeout = Number(__ENV.TIMEOUT || 200)
export const retries = Number(__ENV.RETRIES || 3)
export const patience = Number(__ENV.PATIENCE || 0)
const headers = { 'Content-Type': 'application/json' }
if (__ENV.API_KEY) headers.Authorization = `Bearer ${__ENV.API_KEY}`
if (credentials) headers.Authorization = `Basic ${encoding.b64encode(decodeURIComponent(credentials))}`
const params = { headers, timeout: `${timeout}s` }

const UNKNOWN_CA = 1310 // k6's error code
// How each API is asked, and how it says that an answer is whole. The naive one has nothing to say it with.
const ENDED = ['stop', 'length']
const APIS = {
  sluice: {
    path: '/generate',
    body: (prompt, max_tokens) => ({ prompt, max_tokens }),
    isWhole: (answer) => ENDED.includes(answer.finish_reason) && withTag(answer.model) === withTag(model),
  },
  naive: { path: '/generate', body: (prompt) => ({ prompt }), isWhole: () => true },
  ollama: {
    path: '/api/generate',
    body: (prompt, num_predict) => ({ model, prompt, stream: false, options: { num_predict } }),
    isWhole: (answer) => answer.done === true && ENDED.includes(answer.done_reason),
  },
}
const api = APIS[__ENV.API || 'sluice']
const { questions, manners } = JSON.parse(open('./prompts.json'))

const begun = new Counter('begun')
const asked = new Trend('asked', true) // one for each question, with what became of it
const failed = new Rate('failed') // not answered, whatever the reason
const broken = new Rate('broken') // neither answered nor refused as agreed
const measuring = new Gauge('measuring')

/** The prompt of an iteration: no two are alike, and every run asks the same ones in the same order. */
function promptOf(number) {
  const manner = manners[Math.floor(number / questions.length) % manners.length]
  return `${number}. ${questions[number % questions.length]} ${manner}`
}

/** Waits for as long as TARGET's load balancer may take to be there: its name, its address and its targets. */
export function awaitTarget() {
  const until = Date.now() + patience * 1000
  const answers = () => {
    const { status, headers } = http.get(`${target}/v1/models`, params)
    return status !== 0 && !`${headers.Server}`.includes('awselb') // an error of the load balancer's own
  }
  while (target && Date.now() < until && !answers()) sleep(2)
}

/** Ends the run unless TARGET answers, and serves these models. listed: its answer of getModels(), if it was asked. */
export function requireTarget(models = [model], listed = undefined) {
  if (!target || !models.every(Boolean)) fail('set TARGET to the address and MODEL to the model that must answer there')
  if (credentials && __ENV.API_KEY) fail(`${target} has credentials and API_KEY is set: a request can carry one of them`)
  if (api !== APIS.sluice) return
  const reply = listed || getModels()
  if (reply.status !== 200) fail(`${target}/v1/models: ${said(reply)}`)
  const served = (reply.json('data') || []).map(({ id }) => id)
  const missing = models.filter((name) => !served.map(withTag).includes(withTag(name)))
  if (missing.length) failWith(`${target} serves ${served}, not ${missing}`)
}

/** Ends the run unless the target is what it should be and answers; what is asked here isn't measured. */
export function setup() {
  requireTarget()
  const url = `${target}${api.path}`
  const bodies = [...Array(Number(__ENV.WARM_UP || 4)).keys()].map((n) => api.body(`Warm-up ${promptOf(n)}`, 16))
  const replies = http.batch(bodies.map((body) => ['POST', url, JSON.stringify(body), params]))
  if (!replies.some(isAnswer)) failWith(`${url} gave no answer to warm up: ${said(replies[0])}`)
  measuring.add(1)
}

/** Ends the run with a reason, or with a better one where what was taken for Sluice is Ollama itself. */
function failWith(reason) {
  const page = api === APIS.sluice && http.get(`${target}/`, { ...params, timeout: '5s' }).body
  fail(page === 'Ollama is running' ? `${target} is Ollama itself, not Sluice: use --api ollama` : reason)
}

/** What a reply says that is no answer, with what helps. */
function said({ status, error, error_code, body }) {
  const hint = error_code === UNKNOWN_CA ? '; name the file of its CA in SSL_CERT_FILE' : ''
  return `status ${status} ${error || `${body}`.slice(0, 200)}${hint}`
}

/** A user's question with its retries, as one record: all that happens until the last byte is the user's wait. */
export function ask() {
  begun.add(1)
  const body = api.body(promptOf(exec.scenario.iterationInTest), Number(__ENV.MAX_TOKENS) || undefined)
  const started = Date.now()
  for (let attempts = 1, refusals = 0; ; attempts++) {
    const { outcome, wait } = attempt(body)
    refusals += outcome === 'refused'
    if (outcome !== 'answered' && wait !== undefined && attempts <= retries) {
      sleep(wait)
      continue
    }
    asked.add(Date.now() - started, { outcome, attempts: `${attempts}`, refusals: `${refusals}` })
    failed.add(outcome !== 'answered')
    broken.add(!['answered', 'refused'].includes(outcome))
    return sleep(Number(__ENV.PAUSE || 0))
  }
}

export function getModels() {
  return http.get(`${target}/v1/models`, params)
}

/** Returns what the models can do, a list for each as Ollama lists it; undefined where it isn't known yet. */
export function getCapabilities(models) {
  const reply = http.get(`${target}/api/tags`, params)
  const listed = (reply.status === 200 && reply.json('models')) || []
  return models.map((name) => listed.find((each) => withTag(each.name) === withTag(name))?.capabilities)
}

/** Sends a body once: the reply, its `outcome`, and `wait`, the seconds until a retry is welcome, if one is. */
export function attempt(body, path = api.path) {
  const reply = http.post(`${target}${path}`, JSON.stringify(body), params)
  const told = Number(reply.headers['Retry-After']) // NaN without one, or if it is a date or a word
  const refused = [429, 503].includes(reply.status)
  let outcome = refused && told > 0 ? 'refused' : 'error'
  if (reply.error_code === 1050) outcome = 'timeout'
  else if (reply.status === 200) outcome = isAnswer(reply) ? 'answered' : 'bad_answer'
  // Who has agreed on nothing is asked again at once, as its clients would.
  const wait = told > 0 && reply.status !== 200 ? told : api === APIS.sluice ? undefined : 0
  return { reply, outcome, wait }
}

/** Says whether a refusal is for others' load or a quota, not for a fault of the release. */
export function isBusy(reply) {
  if (!(Number(reply.headers['Retry-After']) > 0)) return false
  return reply.status === 429 || (reply.status === 503 && `${reply.body}`.includes('"saturated"'))
}

function isAnswer(reply) {
  try {
    const answer = JSON.parse(reply.body)
    return reply.status === 200 && answer.response.trim() !== '' && api.isWhole(answer)
  } catch {
    return false // no JSON at all
  }
}

export function withTag(name) {
  return `${name}`.includes(':') ? name : `${name}:latest`
}
