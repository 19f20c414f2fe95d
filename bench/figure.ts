/** One row of the table that `npm run bench` prints. */
export interface Figure {
  readonly what: string
  readonly against: string
  readonly measured: string
  /** Empty where the figure is told, and nothing asked of it. */
  readonly bar: string
  readonly ok: boolean
}

export const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN
