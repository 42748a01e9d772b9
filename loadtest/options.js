// The options of what is measured. From the environment: SECONDS (all stages together), USERS (at most), RATE (1 ×,
// questions a second), SLO (seconds) and SUMMARY, the file that says which thresholds were kept.
import { fail } from 'k6'
import { retries, timeout } from './lib.js'

const need = (name) => Number(__ENV[name]) || fail(`${name} is missing: use python -m loadtest run`)
const [seconds, users, slo] = [need('SECONDS'), need('USERS'), need('SLO')]
const UNIT = 1000 // seconds; k6 takes whole numbers of questions in it only

/** Users who each ask the next question when the last is answered; stages are [minutes, users], of USERS at most. */
export function closed(from, stages, thresholds) {
  const most = Math.max(...stages.map(([, count]) => count))
  const count = (of) => Math.round((users * of) / most)
  const scenario = { executor: 'ramping-vus', startVUs: count(from), stages: scaled(stages, count) }
  return measured({ ...scenario, gracefulRampDown: patience() }, thresholds)
}

/** Questions at a rate, whatever becomes of those before; stages are [minutes, times RATE]. */
export function opened(from, stages, thresholds) {
  const count = (times) => Math.max(1, Math.round(need('RATE') * times * UNIT))
  const vus = { preAllocatedVUs: users, maxVUs: users }
  const executor = { executor: 'ramping-arrival-rate', startRate: count(from), timeUnit: `${UNIT}s`, ...vus }
  return measured({ ...executor, stages: scaled(stages, count) }, thresholds)
}

function scaled(stages, count) {
  const minutes = stages.reduce((sum, [each]) => sum + each, 0)
  return stages.map(([each, of]) => ({ duration: `${Math.round((each * seconds * 1000) / minutes)}ms`, target: count(of) }))
}

function measured(scenario, thresholds) {
  return {
    scenarios: { measured: { ...scenario, gracefulStop: patience() } },
    thresholds: { 'asked{outcome:answered}': [`p(95)<${slo * 1000}`], ...thresholds },
    noConnectionReuse: true, // as many users as questions: each is balanced anew
    setupTimeout: `${timeout + 60}s`,
    systemTags: ['status'],
  }
}

// Until whoever has asked has the answer, or the last refusal.
function patience() {
  return `${(retries + 1) * (timeout + 60)}s`
}

/** Writes what the runner wants to know of k6's own figures. */
export const handleSummary = ({ metrics }) => ({ [__ENV.SUMMARY]: JSON.stringify(metrics) })
