/** What a run has shown until now: the end of what it printed, and what it said of its progress last. */
import type * as SkillTools from "@skillscale/tools/SkillTools"

/** Characters of output that are shown while it goes on. */
const maxShown = 4000

export interface SoFar {
  readonly text: string
  readonly progress?: string
}

/** A function that takes what happens and tells what there is to show then, if it is anything new. */
export const make = (): (event: SkillTools.Progress) => SoFar | undefined => {
  let shown: SoFar = { text: "" }
  return (event) => {
    switch (event._tag) {
      case "Accepted":
        return undefined
      case "Output":
        return shown = { ...shown, text: (shown.text + event.text).slice(-maxShown) }
      case "Progress":
        return shown = { ...shown, progress: event.message }
    }
  }
}
