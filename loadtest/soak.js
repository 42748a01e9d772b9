// The same load for so long that what leaks or drifts shows.
import { ask } from './lib.js'
import { opened } from './options.js'

export { setup } from './lib.js'
export { handleSummary } from './options.js'

// [minutes, times RATE at their end]
const STAGES = [[30, 1]]

export const options = opened(1, STAGES, { failed: ['rate<0.01'] })

export default ask
