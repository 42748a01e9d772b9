// Users who come, stay, become more, and leave: what the predecessor was measured with.
import { ask } from './lib.js'
import { closed } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, users at their end]
const STAGES = [
  [1, 10],
  [2, 10],
  [1, 15],
  [2, 15],
  [1, 0],
]

export const options = closed(5, STAGES, { failed: ['rate<0.1'] })

export default ask
