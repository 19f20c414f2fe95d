/** Names for what tools add to the files of a run. */

/** The path, or one with a number, that no file has, nor a folder of theirs, also where case does not tell them apart. */
export const freePath = (wanted: string, taken: ReadonlyArray<{ readonly path: string }>): string => {
  const paths = taken.map(({ path }) => `${path.toLowerCase()}/`)
  const isTaken = (path: string) => paths.some((other) => other.startsWith(`${path.toLowerCase()}/`))
  const dot = wanted.lastIndexOf(".")
  let path = wanted
  for (let count = 2; isTaken(path); count++) path = `${wanted.slice(0, dot)}_${count}${wanted.slice(dot)}`
  return path
}
