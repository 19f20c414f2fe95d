/**
 * What this machine has to confine runs with, and what is lost without it.
 *
 * Every mechanism is tried for real, as the executor will use it, in a process of its own. `skillscale doctor` prints the
 * table; a server logs what is missing when it starts.
 *
 * @since 0.1.0
 */
import * as Native from "@skillscale/native/native"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ControlGroups from "./internal/controlGroups.ts"
import { errnoCode } from "./internal/executorOutcome.ts"

/**
 * One mechanism.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mechanism {
  readonly name: string
  readonly isThere: boolean
  /** What the kernel says, such as `ABI 7` or `unshare: EPERM`. */
  readonly answer: string
  /** What it protects. */
  readonly protects: string
  /** What runs can do where it is missing. */
  readonly without: string
  /** Whether runs are not confined in full without it. */
  readonly isRequired: boolean
}

/**
 * The machine could not be asked: the addon is missing or does not start.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProbeFailed extends Schema.TaggedError<ProbeFailed>()("ProbeFailed", {
  detail: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `cannot find out how runs are confined: ${this.detail}`
  }
}

/** In the order of the table: what each is called by the addon, what it protects, and what is lost without it. */
const known: Readonly<Record<string, readonly [protects: string, without: string]>> = {
  "user-namespace": ["everything below needs it where the server is not root", "no cell: see the rows below"],
  "mount-namespace": [
    "files outside the skill, the system and /tmp: they are not there",
    "Landlock alone keeps files apart; their names can be seen"
  ],
  "pid-namespace": [
    "other processes and what /proc tells of them; the whole tree ends with its first process",
    "runs see the processes of the server's user"
  ],
  "ipc-namespace": ["shared memory and semaphores of others", "the system call filter alone refuses them"],
  "uts-namespace": ["the host's name", "runs see the host's name"],
  "network-namespace": [
    "the network: there is a loopback of the run's own",
    "the system call filter refuses sockets, also for loopback"
  ],
  "cell": ["all of the above, together with a root of its own", "runs share the host's processes and paths"],
  "overlay": ["the skill: it is below, what a run writes is above", "every run gets a copy of the skill"],
  "mapped-mounts": [
    "skills that belong to root, run by somebody else",
    "skills of a server that is root run in copies, without a cell"
  ],
  "landlock": [
    "files beside the allowed ones, TCP, signals and abstract sockets, by version",
    "other runs' files can be read by their path where there is no cell"
  ],
  "seccomp": ["the kernel: system calls that no script needs", "runs reach every system call"],
  "no-new-privileges": ["set-user-ID programs: they give nothing", "set-user-ID programs work"]
}

const answerOf = (mechanism: Native.Mechanism): string =>
  mechanism.errno !== 0
    ? `${mechanism.syscall}: ${errnoCode(mechanism.errno)}`
    : mechanism.version > 0
    ? `version ${mechanism.version}`
    : "works"

const controlGroup = Effect.scoped(
  Effect.map(ControlGroups.make({ probe: true }), ({ controllers, folder, lacking }): Mechanism => {
    const has = folder === "" ? "" : ["end", ...controllers].join(", ")
    return {
      name: "control-group",
      isThere: lacking === undefined,
      answer: [has, lacking ?? ""].filter((part) => part !== "").join("; "),
      protects:
        "the host's memory and processes from a tree as a whole, at the moment it grows; all of it ends at once",
      without: "memory and processes of a tree are measured, every 5 to 40 ms",
      isRequired: false
    }
  })
)

/**
 * Asks the kernel. Whom runs of root become may matter to it; by default nobody, 65534.
 *
 * @category getters
 * @since 0.1.0
 */
export const probe = (
  options?: { readonly uid?: number | undefined; readonly gid?: number | undefined }
): Effect.Effect<ReadonlyArray<Mechanism>, ProbeFailed> =>
  Effect.tryPromise({
    try: () => Native.probe(Native.load().reaperPath, { uid: options?.uid ?? 65_534, gid: options?.gid ?? 65_534 }),
    catch: (cause) => new ProbeFailed({ detail: cause instanceof Error ? cause.message : String(cause), cause })
  }).pipe(
    Effect.map((mechanisms) =>
      mechanisms.map((mechanism): Mechanism => {
        const [protects, without] = known[mechanism.name] ?? ["", ""]
        const isThere = mechanism.errno === 0
        return { name: mechanism.name, isThere, answer: answerOf(mechanism), protects, without, isRequired: true }
      })
    ),
    Effect.zipWith(controlGroup, (mechanisms, last) => [...mechanisms, last])
  )
