import * as NodeServices from "@effect/platform-node/NodeServices"
import type * as Bus from "@skillscale/core/Bus"
import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Interpreter from "@skillscale/server/Interpreter"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Secrets from "@skillscale/server/Secrets"
import * as SkillRunner from "@skillscale/server/SkillRunner"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as WorkingView from "@skillscale/server/WorkingView"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "node:path"

/** What a test's skill consists of: its category, and its files by path. */
export interface Fixture {
  readonly category: string
  readonly name: string
  readonly files: Readonly<Record<string, string>>
}

/** A skill that prints its input. */
export const echo: Fixture = {
  category: "testing",
  name: "echo",
  files: { "scripts/run.sh": "printf 'echo: '; cat\n" }
}

/** Writes skills to a folder that goes with the scope. */
export const writeSkills = Effect.fnUntraced(function*(fixtures: ReadonlyArray<Fixture>) {
  const fileSystem = yield* FileSystem.FileSystem
  const directory = yield* fileSystem.makeTempDirectoryScoped({ prefix: "skillscale-test-" })
  for (const { category, files, name } of fixtures) {
    const root = Path.join(directory, category, name)
    const manifest = `---\nname: ${name}\ndescription: Tests the stack as ${name}.\n---\nInstructions of ${name}.\n`
    for (const [path, text] of Object.entries({ "SKILL.md": manifest, ...files })) {
      yield* fileSystem.makeDirectory(Path.dirname(Path.join(root, path)), { recursive: true })
      yield* fileSystem.writeFileString(Path.join(root, path), text)
    }
  }
  return directory
})

/** A proxy on free ports. */
export const proxy = Proxy.layer({ host: "127.0.0.1", xsubPort: 0, xpubPort: 0, metricsPort: 0 })

/** A bus of its own that is connected to the proxy. */
export const bus = Layer.unwrap(Effect.map(Proxy.Proxy, ({ xpub, xsub }) => ZmqBus.layer({ xsub, xpub })))

/** A server for one topic on this bus, with the skills of a folder and real processes. */
export const serverFrom = <E, R>(
  bus: Layer.Layer<Bus.Bus, E, R>,
  skills: SkillDiscovery.Options,
  options: SkillServer.Options,
  runner?: SkillRunner.Options
) =>
  SkillServer.layer(options).pipe(
    Layer.provide(bus),
    Layer.provide(SkillRunner.layer(runner)),
    Layer.provide(Layer.mergeAll(Interpreter.layer, Secrets.layer({}), WorkingView.layer())),
    Layer.provide(NativeExecutor.layerOrNode()),
    Layer.provide(SkillDiscovery.layer(skills)),
    Layer.provide(NodeServices.layer)
  )

/** A server for one topic on this bus, with real processes. */
export const serverOn = <E, R>(
  bus: Layer.Layer<Bus.Bus, E, R>,
  fixtures: ReadonlyArray<Fixture>,
  options: SkillServer.Options,
  runner?: SkillRunner.Options
) =>
  Layer.unwrap(
    Effect.map(writeSkills(fixtures), (directory) => serverFrom(bus, { directory, watch: false }, options, runner))
  ).pipe(Layer.provide(NodeServices.layer))

/** A server for one topic on a bus of its own. */
export const server = (fixtures: ReadonlyArray<Fixture>, options: SkillServer.Options) =>
  serverOn(bus, fixtures, options)

/** A proxy and a server for `TOPIC_TESTING` with the given skills. */
export const stack = (fixtures: ReadonlyArray<Fixture>) =>
  server(fixtures, { topic: "TOPIC_TESTING" }).pipe(Layer.provideMerge(proxy))
