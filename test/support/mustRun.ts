/** Tells whether a test may be skipped for want of `what`: never where everything must run. */
export const skipUnless = (available: boolean, what: string): boolean => {
  if (available) return false
  if (process.env["SKILLSCALE_MUST_RUN"] === "1") throw new Error(`${what} is missing, and every test must run`)
  process.stderr.write(`skipped: ${what} is missing\n`)
  return true
}
