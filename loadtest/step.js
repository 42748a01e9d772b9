// The load becomes three times as much at once, stays, and goes back: does the autoscaler follow, and how soon?
import { ask } from './lib.js'
import { opened } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, times RATE at their end]
const STAGES = [
  [3, 1],
  [0, 3],
  [6, 3],
  [0, 1],
  [3, 1],
]

export const options = opened(1, STAGES, { failed: ['rate<0.05'] })

export default ask
