/** What a framework makes of the tools: made again when the skills differ, not with each look. */
import type { Tool, Toolbox } from "@skillscale/tools/PromiseTools"

export const translated = <A>(
  toolbox: Pick<Toolbox, "tools">,
  translate: (tools: ReadonlyArray<Tool>) => A
): () => A => {
  let tools = toolbox.tools()
  let made = translate(tools)
  return () => {
    const now = toolbox.tools()
    if (now !== tools) {
      made = translate(now)
      tools = now
    }
    return made
  }
}
