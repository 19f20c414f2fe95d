/** The tool of one skill: its entry point, with what that takes. */
import * as ClientError from "@skillscale/client/ClientError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ObjectSchema from "../ObjectSchema.ts"
import type * as SkillCatalog from "../SkillCatalog.ts"
import type * as SkillTools from "../SkillTools.ts"
import * as Failing from "./failing.ts"
import * as InputFiles from "./inputFiles.ts"
import * as Instructions from "./instructions.ts"
import * as JsonInput from "./jsonInput.ts"
import * as ModelText from "./modelText.ts"
import type { Ran, Running } from "./running.ts"

/** A tool without its name. */
export interface Definition extends Omit<SkillTools.Tool, "name" | "call"> {
  readonly call: (input: unknown, options: SkillTools.CallOptions) => Effect.Effect<SkillTools.Output, Failing.Failure>
}

export interface Options extends ModelText.Cap {
  readonly catalog: SkillCatalog.SkillCatalog["Service"]
  readonly running: Running
  readonly pin: boolean
  /** Whether any schema of an object is told as it is. */
  readonly isVerbatim: boolean
}

/** What is to be expected of a skill whose server says nothing of that. */
const anything: SkillTools.Hints = { readOnly: false, destructive: true, idempotent: false, openWorld: true }
const reading: SkillTools.Hints = { readOnly: true, destructive: false, idempotent: true, openWorld: false }

const maxTitle = 100

const titleOf = (name: string): string => {
  const words = name.replaceAll(/[-_]+/g, " ").trim().slice(0, maxTitle)
  return words === "" ? name : `${words[0]?.toUpperCase() ?? ""}${words.slice(1)}`
}

const plain = {
  input: Schema.optionalKey(Schema.String.annotate({ description: "What the script reads on standard input" })),
  args: Schema.optionalKey(
    Schema.Array(Schema.String).annotate({ description: "Arguments of the script, one each, as on a command line" })
  ),
  files: Schema.optionalKey(InputFiles.InputFiles)
}

const entryInput = JsonInput.make(Schema.Struct(plain))
const nothing = JsonInput.make(Schema.Struct({}))

const isObjectSchema = (schema: Readonly<Record<string, unknown>>): schema is SkillTools.ObjectSchema =>
  schema["type"] === "object"

/** What the APIs of models refuse at the root of a tool's arguments. */
const notAtRoot = ["allOf", "anyOf", "oneOf", "not", "enum"]

/** What they take as the name of an argument: at most 64 characters, by the rule of Anthropic's. */
const isArgument = (name: string): boolean => /^[a-zA-Z0-9_.-]{1,64}$/.test(name)

const isArguments = (schema: Readonly<Record<string, unknown>>): schema is SkillTools.ObjectSchema =>
  isObjectSchema(schema) && !notAtRoot.some((keyword) => keyword in schema) &&
  Object.keys(Object(schema["properties"])).every(isArgument)

/** The longest description of a tool that OpenAI's Chat Completions take, in characters. */
const maxDescription = 1024

/** Tools take and give objects: anything else is the one property of one. */
const asObject = (
  schema: Readonly<Record<string, unknown>>,
  key: string,
  isAsItIs = isObjectSchema
): SkillTools.ObjectSchema =>
  isAsItIs(schema)
    ? schema
    : ObjectSchema.withProperty(
      { type: "object", properties: {}, required: [key], additionalProperties: false },
      key,
      schema
    )

export const make = (options: Options, skill: SkillCatalog.Skill): Definition => {
  const { running } = options
  const common = { title: titleOf(skill.name), description: ModelText.cut(skill.description, maxDescription), skill }
  const request = {
    skill: skill.name,
    topic: skill.topic,
    ...options.pin ? { digest: skill.digest } : {}
  }

  if (skill.scripts.length === 0 && skill.entry === null) {
    return {
      ...common,
      inputSchema: nothing.schema,
      outputSchema: undefined,
      hints: reading,
      call: (input) => Effect.andThen(nothing.read(input), Instructions.load(options, skill))
    }
  }

  const { input: inputSchema, output: outputSchema } = skill
  const structured = ({ output, result }: Ran): Effect.Effect<SkillTools.Output, Failing.Failure> =>
    outputSchema === undefined ? Effect.succeed(output) : Effect.try({
      try: () => {
        const value: unknown = JSON.parse(Buffer.from(result.stdout).toString("utf8"))
        return { ...output, structured: isObjectSchema(outputSchema) ? value : { result: value } }
      },
      catch: () => {
        const detail = "standard output is not JSON, as the skill's schema says"
        return new Failing.RunFailed({ reason: new ClientError.ProtocolError({ detail }), left: result })
      }
    })
  const definition = {
    ...common,
    outputSchema: outputSchema === undefined ? undefined : asObject(outputSchema, "result"),
    hints: skill.hints ?? anything
  }

  if (skill.entry === null) {
    const named = JsonInput.make(Schema.Struct({
      script: Schema.Literals(skill.scripts).annotate({ description: "The script to run" }),
      ...plain
    }))
    return {
      ...definition,
      outputSchema: undefined,
      inputSchema: named.schema,
      call: Effect.fnUntraced(function*(given, callOptions) {
        const { args, files = [], input, script } = yield* named.read(given)
        const placed = yield* InputFiles.read(files, options.artifacts)
        const ran = yield* running.run({ ...request, script, args, stdin: input, files: placed }, callOptions)
        return ran.output
      })
    }
  }

  if (inputSchema !== undefined) {
    const isAsItIs = options.isVerbatim ? isObjectSchema : isArguments
    const isWhole = isAsItIs(inputSchema)
    return {
      ...definition,
      inputSchema: { properties: {}, ...asObject(inputSchema, "input", isAsItIs) },
      // The server knows whether it fits.
      call: (given, callOptions) =>
        Effect.try({
          try: () => {
            const value = isWhole || typeof given !== "object" || given === null || !("input" in given)
              ? given ?? {}
              : given.input
            const written: string | undefined = JSON.stringify(value)
            if (written === undefined) throw new TypeError(`they are of type ${typeof value}`)
            return written
          },
          catch: JsonInput.notJson
        }).pipe(
          Effect.flatMap((stdin) => running.run({ ...request, stdin }, callOptions)),
          Effect.flatMap(structured)
        )
    }
  }

  return {
    ...definition,
    inputSchema: entryInput.schema,
    call: Effect.fnUntraced(function*(given, callOptions) {
      const { args, files = [], input } = yield* entryInput.read(given)
      const placed = yield* InputFiles.read(files, options.artifacts)
      return yield* structured(yield* running.run({ ...request, args, stdin: input, files: placed }, callOptions))
    })
  }
}
