/** The suite of the frameworks, without one: what an adapter is given passes it as it is. */
import { ToolError } from "@skillscale/tools/ToolError"
import { type Conversation, type Given, suite } from "./frameworkSuite.ts"

suite("no framework", {
  converse: async (toolbox, asks, { signal }) => {
    const given: Array<Given> = []
    const files: Array<Conversation["files"][number]> = []
    const progress: Array<string> = []
    let offered: ReadonlyArray<string> = []
    for (const ask of asks) {
      const { input, tool } = typeof ask === "function" ? await ask() : ask
      offered = toolbox.tools().map(({ name }) => name)
      try {
        const { artifacts, text } = await toolbox.call(tool, input, {
          signal,
          onProgress: (event) => void progress.push(event._tag === "Progress" ? event.message : event._tag)
        })
        given.push({ text, isError: false })
        files.push(...artifacts)
      } catch (error) {
        if (!(error instanceof ToolError)) throw error
        given.push({ text: error.text, isError: true })
        files.push(...error.artifacts)
      }
    }
    return { given, files, progress, offered }
  }
})
