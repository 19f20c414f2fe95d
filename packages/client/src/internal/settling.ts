const firstMs = 50
const longestMs = 400

/**
 * How long to wait before a proxy that has not settled is asked again, in milliseconds: twice as long each time, and not longer
 * than until it has.
 */
export const pauseMs = (settleMs: number, asked: number): number =>
  Math.min(settleMs, longestMs, firstMs * 2 ** Math.min(asked, 10))
