/** One tool, as ADK declares and calls it. */
import { type BaseTool, type Context, createEvent } from "@google/adk"
import type * as Artifacts from "@skillscale/tools/Artifacts"
import type { Tool } from "@skillscale/tools/PromiseTools"
import type * as SkillTools from "@skillscale/tools/SkillTools"
import { ToolError } from "@skillscale/tools/ToolError"
import * as Images from "./images.ts"
import * as ModelError from "./modelError.ts"

/** Whether what the tool answers is what its schema says, and no text. */
const isStructured = ({ outputSchema, skill }: Tool): boolean => skill !== undefined && outputSchema !== undefined

export const declaration = (tool: Tool): NonNullable<ReturnType<BaseTool["_getDeclaration"]>> => ({
  name: tool.name,
  description: tool.description,
  parametersJsonSchema: tool.inputSchema,
  ...isStructured(tool) ? { responseJsonSchema: tool.outputSchema } : {}
})

/** A script chooses the names of its files; one for all sessions of the user is not for it to write. */
const nameOf = (path: string): string => path.replace(/^user:/, "user_")

const save = async (context: Context | undefined, artifacts: ReadonlyArray<Artifacts.Artifact>): Promise<void> => {
  if (context?.invocationContext.artifactService === undefined) return
  for (const { data, mime, path } of artifacts) {
    await context.saveArtifact(nameOf(path), { inlineData: { mimeType: mime, data: Images.base64(data) } })
  }
}

const tell = ({ functionCallId, invocationContext }: Context, tool: string, progress: SkillTools.Progress): void => {
  const { agent, branch, eventQueue, invocationId } = invocationContext
  eventQueue?.push(createEvent({
    invocationId,
    author: agent?.name ?? tool,
    ...branch === undefined ? {} : { branch },
    partial: true,
    customMetadata: { skill_progress: { tool, functionCallId, progress } }
  }))
}

/** A key for the files that the answer does not have, nor may have: `files`, or else `files_2` and so on. */
const filesKey = ({ outputSchema }: Tool, answer: object): string => {
  const isTaken = (key: string) =>
    Object.hasOwn(answer, key) || Object.hasOwn(Object(outputSchema?.["properties"]), key)
  let key = "files"
  for (let count = 2; isTaken(key); count++) key = `files_${count}`
  return key
}

/** Of what is too long to be shown at once the text says so, and where the rest is. */
const response = (tool: Tool, { artifacts, structured, text, whole }: SkillTools.Output): unknown => {
  if (!isStructured(tool) || typeof structured !== "object" || structured === null || whole !== undefined) {
    return { result: text }
  }
  if (artifacts.length === 0) return { ...structured }
  const files = artifacts.map(({ id, mime, path, size }) => ({ artifact: id, path, mime, size }))
  return { ...structured, [filesKey(tool, structured)]: files }
}

/** Without a context, as no agent calls it, nothing is saved or told. */
export const run = async (
  tool: Tool,
  args: Readonly<Record<string, unknown>>,
  context: Context | undefined
): Promise<unknown> => {
  try {
    const output = await tool.call(args, {
      signal: context?.abortSignal,
      // Output that is passed on while it is produced costs more than all of it at the end.
      onProgress: context?.invocationContext.eventQueue === undefined
        ? undefined
        : (progress) => tell(context, tool.name, progress)
    })
    await save(context, output.artifacts)
    return response(tool, output)
  } catch (error) {
    if (error instanceof ToolError) await save(context, error.artifacts)
    throw ModelError.modelError(error)
  }
}
