/**
 * The server's store of secrets, from which each skill gets exactly those that it declares by name.
 *
 * Values are `Redacted` from the moment they are read; only the environment of a run sees them.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/**
 * The store could not be read.
 *
 * @category errors
 * @since 0.1.0
 */
export class SecretsError extends Schema.TaggedError<SecretsError>()("SecretsError", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `cannot read secrets from ${this.file}: ${this.detail}`
  }
}

/**
 * Gives out secrets by name.
 *
 * @category services
 * @since 0.1.0
 */
export class Secrets extends Context.Service<Secrets, {
  /** The secret of that name, when the store has it. */
  readonly get: (name: string) => Option.Option<Redacted.Redacted>
}>()("@skillscale/server/Secrets") {}

/**
 * Keeps secrets that the program already has.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (secrets: Readonly<Record<string, Redacted.Redacted>>): Layer.Layer<Secrets> => {
  const store = new Map(Object.entries(secrets))
  return Layer.succeed(Secrets, { get: (name) => Option.fromNullishOr(store.get(name)) })
}

const prefix = "SKILLSCALE_SECRET_"

const fromFile = Effect.fnUntraced(function*(file: string) {
  const fileSystem = yield* FileSystem.FileSystem
  const failed = (error: PlatformError.PlatformError) =>
    new SecretsError({ file, detail: error.reason._tag === "NotFound" ? "it does not exist" : error.reason.message })
  const stat = yield* Effect.mapError(fileSystem.stat(file), failed)
  if ((stat.mode & 0o077) !== 0) {
    yield* Effect.logWarning("the file of secrets can be read by others; chmod 600 it", file)
  }
  const text = yield* Effect.mapError(fileSystem.readFileString(file), failed)
  const secrets: Record<string, Redacted.Redacted> = {}
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line)
    const [, name, value] = match ?? []
    if (name === undefined || value === undefined) {
      return yield* new SecretsError({ file, detail: `line ${index + 1} is not NAME=VALUE` })
    }
    const quoted = /^(["'])(.*)\1$/.exec(value.trim())
    secrets[name] = Redacted.make(quoted?.[2] ?? value.trim())
  }
  return secrets
})

/**
 * Reads the store from the environment: each `SKILLSCALE_SECRET_<NAME>`, and the lines `NAME=VALUE` of the file that
 * `SKILLSCALE_SECRETS_FILE` names. A variable beats the file.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<Secrets, SecretsError | Config.ConfigError, FileSystem.FileSystem> = Layer.unwrap(
  Effect.gen(function*() {
    const file = yield* Config.option(Config.String("SKILLSCALE_SECRETS_FILE"))
    const stored = Option.isSome(file) ? yield* fromFile(file.value) : {}
    const variables: Record<string, Redacted.Redacted> = {}
    for (const [key, value] of Object.entries(process.env)) {
      if (key.startsWith(prefix) && value !== undefined) variables[key.slice(prefix.length)] = Redacted.make(value)
    }
    return layer({ ...stored, ...variables })
  })
)
